"""The stable pod as a router between champion and challenger."""
