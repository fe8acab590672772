"""Trains a credit-risk network and decides whether it may go to Production."""
