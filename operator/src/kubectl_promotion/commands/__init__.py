"""The subcommands, one module per kind."""
