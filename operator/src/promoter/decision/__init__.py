"""Decisions as pure functions: no I/O and no clock. Imports only the API."""
