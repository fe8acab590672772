"""What is read of decisions and of what became of them, and the two things that people add: timeline and forgetting."""
