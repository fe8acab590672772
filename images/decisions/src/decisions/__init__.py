"""The decision log: every credit decision in Postgres, sealed, readable, and joined with what became of the loan."""
