"""Scoring without HTTP: single applications, batches and the audit log."""
