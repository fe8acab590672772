"""Train a credit-risk model, evaluate it, register it, and move the Production pointer if its gates pass."""
