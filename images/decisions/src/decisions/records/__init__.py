"""Records: what is kept of a decision for years, and the hashes that prove it."""
