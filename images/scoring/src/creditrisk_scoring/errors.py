"""What bulk scoring can fail with, and the exit code of each."""

from __future__ import annotations


class BulkError(Exception):
    """A failure that a rerun may overcome; the message says what was wrong, where, and what is allowed."""

    exit_code = 1


# Of a run that is over, except for files that cannot be scored.
INCOMPLETE = 3


class UsageError(BulkError):
    """What was asked cannot be done: options, inputs, or an output folder of another run."""

    exit_code = 2


class InputError(BulkError):
    """A file of the input cannot be scored as it is: it is of no use to try again before the file has changed."""


class CorruptError(InputError):
    """What a file holds is not what its name says; the store has given all of it."""


class ClaimLostError(BulkError):
    """Another process scores the shard; nothing of this one's work is published."""
