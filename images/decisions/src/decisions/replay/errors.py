"""Why a decision cannot be replayed."""

from __future__ import annotations

from decisions.errors import DecisionsError


class ForgottenError(DecisionsError):
    """The decision's inputs were deleted on request."""


class MismatchError(DecisionsError):
    """What was found is not what the decision was made with."""


class UnavailableError(DecisionsError):
    """The version's files cannot be had, or it cannot score these inputs."""


class LaterError(DecisionsError):
    """It cannot be replayed now; a later attempt may succeed."""
