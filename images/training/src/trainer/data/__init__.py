"""Reading, declaring and validating data."""
