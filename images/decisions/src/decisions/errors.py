"""What a command can fail with; each error carries the exit code that it ends the command with."""


class DecisionsError(Exception):
    """A failure that ends a command; the message is for people."""

    exit_code = 1


class UsageError(DecisionsError):
    """Wrong arguments or settings; the message names what is wrong and what is allowed."""

    exit_code = 2


class DifferenceError(DecisionsError):
    """A verification that found a difference."""

    exit_code = 3


class NothingError(DecisionsError):
    """There is nothing that could be judged, such as decisions of a log that has just been switched on."""


class DamagedError(DecisionsError):
    """A part of a segment that cannot be read as what it should be; the message says which and why."""
