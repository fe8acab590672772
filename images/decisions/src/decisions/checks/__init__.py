"""What the operator asks about a canary while it judges it: numbers from the decision log, with their bounds."""
