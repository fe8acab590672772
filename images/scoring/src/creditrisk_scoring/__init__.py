"""Bulk scoring: tables of any size to tables of probabilities of default."""
