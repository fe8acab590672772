"""The local cluster on kind, which needs Docker."""
