"""One model version in memory, and how it gets there."""
