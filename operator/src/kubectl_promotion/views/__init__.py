"""What people and programs read: trees, tables, JSON and YAML."""
