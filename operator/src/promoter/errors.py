"""What can go wrong at the edges, by what helps."""

from __future__ import annotations


class RetryableError(Exception):
    """Something outside did not answer or was busy; another try may help."""


class ConflictError(RetryableError):
    """The API server has another such object already, or a newer one (409)."""


class PermanentError(Exception):
    """Something outside refused; another try does not help before somebody changes something."""


class InvalidRequestError(PermanentError):
    """The API server found that a request does not fit the object as it is (422)."""
