"""Segments: the files in which the scoring service leaves its decisions, as contracts/decision-segment.sql says."""
