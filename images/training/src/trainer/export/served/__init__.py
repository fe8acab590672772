"""Code that travels with a registered model; it imports nothing of the trainer."""
