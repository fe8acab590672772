"""Errors of other systems, by what helps."""

from __future__ import annotations

from promoter.api.resource import ArtifactsReason


class RetryableError(Exception):
    """Another system did not answer or was busy; a retry may help."""


class BusyError(RetryableError):
    """Another system said how long to wait before a retry, in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        """Take the message and the seconds."""
        super().__init__(message)
        self.retry_after = retry_after


class ConflictError(RetryableError):
    """The API server has such an object already, or a newer one (409)."""


class PermanentError(Exception):
    """Another system refused; a retry does not help until somebody changes something."""


class InvalidRequestError(PermanentError):
    """The API server found that a request does not fit the object as it is (422)."""


class ForbiddenError(PermanentError):
    """The API server refused for lack of permission (403)."""


class ArtifactsError(PermanentError):
    """A version's files cannot be kept in the cluster; the reason is one of status.artifactsProblem's."""

    def __init__(self, reason: ArtifactsReason, message: str) -> None:
        """Take the reason, for programs, and the message, for people."""
        super().__init__(message)
        self.reason: ArtifactsReason = reason


class TargetForbiddenError(PermanentError):
    """The operator has no permission for the target of a ModelPromotion; the message says what to change."""
