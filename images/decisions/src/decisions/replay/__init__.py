"""Replays: stored decisions are scored again with the versions that made them, and compared bit by bit."""
