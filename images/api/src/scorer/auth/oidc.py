"""OpenID Connect: bearer tokens, verified with the issuer's published keys."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import msgspec

from scorer.auth.authenticator import unauthorized
from scorer.problems import Problem
from scorer.settings import Settings

log = logging.getLogger(__name__)
# Asymmetric only: with a shared secret, this service could issue tokens too.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 30
# A token with an unknown key makes us fetch the issuer's keys again, but at most this often.
MIN_FETCH_INTERVAL_SECONDS = 10.0
# How long a valid token is accepted without verifying its signature again.
CACHE_SECONDS = 60.0
MAX_CACHED_TOKENS = 1000


@dataclass(frozen=True)
class Issuer:
    """Who issues the tokens, and what their claims must be.

    Attributes:
        url: The `iss` claim, and the base URL of the issuer's discovery document.
        audience: A value that `aud` must contain.
        keys_url: Where the keys are; empty to take it from the discovery document.
        scope: A scope that `scope` (or `scp`) must contain; empty for none.
        client_claim: The claim with the client's name; empty for the first of azp, client_id and sub.
    """

    url: str
    audience: str
    keys_url: str = ""
    scope: str = ""
    client_claim: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Issuer:
        """Return the issuer in the settings."""
        return cls(settings.oidc_issuer, settings.oidc_audience, settings.oidc_keys_url, settings.oidc_scope,
                   settings.oidc_client_claim)  # fmt: skip


class IssuerUnavailableError(Exception):
    """The issuer's keys are unavailable."""


class OpenIdTokens:
    """Identifies clients by their tokens."""

    def __init__(self, session: aiohttp.ClientSession, issuer: Issuer) -> None:
        """Take an HTTP session, whose timeouts apply, and the issuer."""
        self._session, self._issuer = session, issuer
        self._keys: dict[str, jwt.PyJWK] = {}
        self._last_fetch = float("-inf")
        self._fetching = asyncio.Lock()
        self._verified_tokens: dict[bytes, tuple[str, float]] = {}

    async def keep_refreshing(self, seconds: float) -> None:
        """Fetch the keys now and at this interval until cancelled; while that fails, the last ones stay in use."""
        while True:
            await self._refresh(0)
            await asyncio.sleep(seconds if self._keys else MIN_FETCH_INTERVAL_SECONDS)

    async def identify(self, credential: str) -> str:
        """Return the client named in a token.

        Raises:
            Problem: 401 for an invalid token, 403 for one without the scope, 503 if the issuer's keys are unavailable.
        """
        digest, now = hashlib.sha256(credential.encode("latin-1", "replace")).digest(), time.time()
        client, until = self._verified_tokens.get(digest, ("", 0.0))
        if now < until:
            return client
        claims = await self._verify(credential)
        client = self._client(claims)
        if len(self._verified_tokens) >= MAX_CACHED_TOKENS:
            self._verified_tokens.clear()
        self._verified_tokens[digest] = client, min(now + CACHE_SECONDS, float(claims["exp"]))
        return client

    async def _verify(self, token: str) -> dict[str, Any]:
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[name for name in ALGORITHMS if name == key.algorithm_name],
                audience=self._issuer.audience, issuer=self._issuer.url, leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise unauthorized(f"invalid token: {error}", "invalid_token") from error
        return claims

    async def _key(self, name: str) -> jwt.PyJWK:
        if name not in self._keys:
            await self._refresh(MIN_FETCH_INTERVAL_SECONDS)
        if not self._keys:
            raise Problem(503, "the issuer's keys are unavailable", headers=(("Retry-After", "10"),))
        if name not in self._keys:
            raise unauthorized("the token is signed with a key that the issuer does not publish", "invalid_token")
        return self._keys[name]

    def _client(self, claims: dict[str, Any]) -> str:
        issuer = self._issuer
        scopes = claims.get("scope") or claims.get("scp") or ""
        granted = scopes.split() if isinstance(scopes, str) else scopes
        if issuer.scope and not (isinstance(granted, list) and issuer.scope in granted):
            challenge = f'Bearer realm="credit-risk", error="insufficient_scope", scope="{issuer.scope}"'
            raise Problem(403, f"the token lacks the scope {issuer.scope}", headers=(("WWW-Authenticate", challenge),))
        names = (issuer.client_claim,) if issuer.client_claim else ("azp", "client_id", "sub")
        client = next((claims[name] for name in names if isinstance(claims.get(name), str)), None)
        if not client:
            raise unauthorized(f"the token names no client: it lacks the claim {' or '.join(names)}", "invalid_token")
        return str(client)

    async def _refresh(self, min_interval: float) -> None:
        async with self._fetching:
            if time.monotonic() - self._last_fetch < min_interval:
                return
            self._last_fetch = time.monotonic()
            try:
                self._keys = await self._fetch()
                self._verified_tokens.clear()
            except IssuerUnavailableError as error:
                log.warning("cannot refresh the keys of %s: %s", self._issuer.url, error)

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        url = self._issuer.keys_url or await self._discover_keys_url()
        keys = {}
        for document in (await self._json(url)).get("keys") or ():
            try:
                key = jwt.PyJWK(document)
            except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
                log.warning("skipped a key of %s: %s", url, error)
                continue
            if key.algorithm_name in ALGORITHMS and key.public_key_use in {None, "sig"}:
                keys[key.key_id or ""] = key
        if not keys:
            raise IssuerUnavailableError(f"{url} has no usable key")
        return keys

    async def _discover_keys_url(self) -> str:
        described = await self._json(f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != self._issuer.url:
            raise IssuerUnavailableError(f"its discovery document names the issuer {described.get('issuer')!r}")
        return str(described.get("jwks_uri"))

    async def _json(self, url: str) -> dict:  # type: ignore[type-arg]
        try:
            async with self._session.get(url) as answer:
                answer.raise_for_status()
                return msgspec.json.decode(await answer.read(), type=dict)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, ValueError) as error:
            raise IssuerUnavailableError(f"{url}: {error or type(error).__name__}") from error
