"""What became of loans: reading files of outcomes, checking each row, and keeping them."""
