"""Notifications of people: what they say, and their delivery to each receiver."""
