"""Code that is shipped with every registered model; it imports nothing from the trainer."""
