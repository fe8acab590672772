"""The kubectl plugin `kubectl promotion`: watch rollouts and act on them, with the rights of whoever runs it."""
