"""Scores loan applications over REST with the model version that the registry calls Production."""
