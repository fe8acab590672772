"""Trains the network that predicts a borrower's probability of default, and registers what is good enough."""
