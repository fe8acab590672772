"""Scoring without HTTP: one application, a batch, the audit log."""
