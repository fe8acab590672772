"""Decoding applications from JSON, tables and Arrow."""
