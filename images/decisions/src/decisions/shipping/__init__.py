"""The shipper: copies what is in segments into Postgres, each decision once and in the order of its log."""
