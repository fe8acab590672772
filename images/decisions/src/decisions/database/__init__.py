"""The database of decisions: its schema, its roles and its partitions."""
