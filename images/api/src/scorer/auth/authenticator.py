"""The interface between access control and the ways to identify clients."""

from __future__ import annotations

from typing import Protocol

from scorer.problems import Problem


class Authenticator(Protocol):
    """Identifies clients by their credentials."""

    async def identify(self, credential: str) -> str:
        """Return the client's name.

        Raises:
            Problem: 401 for an invalid credential, 403 for one without the required scope.
        """
        ...


def unauthorized(detail: str, error: str = "") -> Problem:
    """Return a 401 that says how to authenticate (RFC 6750)."""
    challenge = 'Bearer realm="credit-risk"' + (f', error="{error}"' if error else "")
    return Problem(401, detail, headers=(("WWW-Authenticate", challenge),))
