"""The stable pod as a router between champion and canary."""
