"""What bulk scoring can fail with, and the exit code of each."""

from __future__ import annotations


class BulkError(Exception):
    """A failure that a rerun may overcome; the message says what was wrong, where, and what is allowed."""

    exit_code = 1


class UsageError(BulkError):
    """What was asked cannot be done: options, inputs, or an output folder of another run."""

    exit_code = 2


class ClaimLostError(BulkError):
    """Another process scores the shard; nothing of this one's work is published."""
