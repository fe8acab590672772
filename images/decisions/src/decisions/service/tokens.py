"""Tokens of an OpenID Connect issuer, verified by the scoring service's own code: decision record 31."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp

from decisions.service.problems import Problem
from decisions.settings import ServeSettings
from scorer.auth.oidc import Issuer, OpenIdTokens
from scorer.problems import Problem as ScorerProblem

_REFRESH_SECONDS = 900.0
_TIMEOUT_SECONDS = 10.0
# Before the name of a token's client, so that it is nobody's who has a key.
PREFIX = "oidc:"


class Tokens:
    """Identifies clients by their tokens, between `open` and `close`."""

    def __init__(self, settings: ServeSettings) -> None:
        """Take the issuer from the settings."""
        self._issuer = Issuer(settings.oidc_issuer, settings.oidc_audience, settings.oidc_keys_url,
                              settings.oidc_scope, settings.oidc_client_claim)  # fmt: skip
        self._session: aiohttp.ClientSession | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._verifier: OpenIdTokens | None = None

    async def open(self) -> None:
        """Begin to fetch the issuer's keys, and again every 15 minutes."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS))
        self._verifier = OpenIdTokens(self._session, self._issuer)
        self._refreshing = asyncio.create_task(self._verifier.keep_refreshing(_REFRESH_SECONDS))

    async def close(self) -> None:
        """Stop fetching keys."""
        if self._refreshing and self._session:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
            await self._session.close()

    async def client_of(self, token: str) -> str:
        """Return the token's client as permissions name it.

        Raises:
            Problem: 401 for an invalid token, 403 for one without the scope, 503 if the issuer's keys are unavailable.
        """
        assert self._verifier is not None  # noqa: S101 - opened before requests are answered
        try:
            return PREFIX + await self._verifier.identify(token)
        except ScorerProblem as problem:
            raise Problem(problem.status, problem.detail, headers=dict(problem.headers)) from problem
