"""Declare, read, validate and split training data."""
