"""The HTTP endpoints: one module per protocol."""
