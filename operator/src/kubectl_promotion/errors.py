"""What a command can end with: exit codes, and errors in words."""

from __future__ import annotations

FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE, NOT_PROMOTED, TIMED_OUT, PAUSED = 1, 2, 3, 4, 5, 6, 7, 8
EXIT_CODES = {
    0: "done; of status: the version is promoted",
    FAILED: "failed in a way that is none of the others",
    USAGE: "wrong usage, an unknown context, or no kubectl",
    NOT_FOUND: "no such ModelPromotion, version or file, or a cluster without ModelPromotions",
    REFUSED: "refused: not logged in, no permission, an action that does not apply, or findings of lint",
    UNREACHABLE: "the cluster or MLflow cannot be reached, or failed",
    NOT_PROMOTED: "status: the version was rolled back, or its rollout was stopped",
    TIMED_OUT: "status, and waiting for an action: not over within the timeout",
    PAUSED: "status --stop-at-pause: the rollout waits for a person",
}


class CommandError(Exception):
    """A failure that ends a command; the message is for people."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        """Take the message and the exit code."""
        super().__init__(message)
        self.exit_code = exit_code


class ConflictError(CommandError):
    """An object has changed since it was read."""


class ExpiredError(CommandError):
    """A watch cannot continue from where it was: list again."""
