"""The operator: rolls out new model versions as canaries, and rolls back versions that fail."""
