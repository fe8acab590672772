"""Drift of applicants and scores, and how well the scores hold: aggregated by DuckDB, judged by NumPy."""
