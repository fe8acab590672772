"""Scores loan applications over REST with the model version that the registry's Production pointer names."""
