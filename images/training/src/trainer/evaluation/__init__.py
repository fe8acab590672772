"""Metrics, fairness, gates and the model card."""
