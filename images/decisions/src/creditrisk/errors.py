"""What a command can fail with, and the exit code of each."""

from __future__ import annotations

FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE = 1, 2, 3, 4, 5
# Of commands that compare, whose NOT_FOUND is REFUSED.
DIFFERENT = 3


class CommandError(Exception):
    """A failure that ends a command; the message is for people."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        """Take the message and the exit code."""
        super().__init__(message)
        self.exit_code = exit_code
