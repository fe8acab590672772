"""OpenID Connect: bearer tokens, checked against the issuer's published keys."""

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

from scorer.auth.middleware import unauthorized
from scorer.problems import Problem
from scorer.settings import Settings

log = logging.getLogger(__name__)
# Signatures that only the issuer can make; a secret that we shared with it would let us make tokens too.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 30
# A token with a key that we do not know makes us ask the issuer, yet not more often than this.
COOL_DOWN_SECONDS = 10.0
# A token that was good stays so for so long without another look at its signature.
REMEMBER_SECONDS = 60.0
REMEMBER_TOKENS = 1000


@dataclass(frozen=True)
class Issuer:
    """Who issues the tokens, and what they must say.

    Attributes:
        url: The `iss` claim, and where the issuer describes itself.
        audience: What `aud` must hold.
        keys_url: Where the keys are; empty to ask the issuer's description.
        scope: A word that `scope` (or `scp`) must hold; empty for none.
        client_claim: The claim with the client's name; empty for the first of azp, client_id and sub.
    """

    url: str
    audience: str
    keys_url: str = ""
    scope: str = ""
    client_claim: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Issuer:
        """Return the issuer that the settings name."""
        return cls(settings.oidc_issuer, settings.oidc_audience, settings.oidc_keys_url, settings.oidc_scope,
                   settings.oidc_client_claim)  # fmt: skip


class IssuerUnavailableError(Exception):
    """The issuer does not tell its keys now."""


class OpenIdTokens:
    """Knows clients by their tokens."""

    def __init__(self, session: aiohttp.ClientSession, issuer: Issuer) -> None:
        """Take a session (its timeouts apply) and the issuer."""
        self._session, self._issuer = session, issuer
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._known: dict[bytes, tuple[str, float]] = {}

    async def keep_refreshing(self, seconds: float) -> None:
        """Fetch the keys at start and every so many seconds, until cancelled; old ones serve while there are no new."""
        while True:
            await self._refresh(0)
            await asyncio.sleep(seconds if self._keys else COOL_DOWN_SECONDS)

    async def identify(self, credential: str) -> str:
        """Return the client that a token names.

        Raises:
            Problem: 401 for a token that is not good, 403 for one without the scope, 503 without the issuer's keys.
        """
        digest, now = hashlib.sha256(credential.encode("latin-1", "replace")).digest(), time.time()
        client, until = self._known.get(digest, ("", 0.0))
        if now < until:
            return client
        claims = await self._verified(credential)
        client = self._client(claims)
        if len(self._known) >= REMEMBER_TOKENS:
            self._known.clear()
        self._known[digest] = client, min(now + REMEMBER_SECONDS, float(claims["exp"]))
        return client

    async def _verified(self, token: str) -> dict[str, Any]:
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[name for name in ALGORITHMS if name == key.algorithm_name],
                audience=self._issuer.audience, issuer=self._issuer.url, leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise unauthorized(f"the token is not good: {error}", "invalid_token") from error
        return claims

    async def _key(self, name: str) -> jwt.PyJWK:
        if name not in self._keys:
            await self._refresh(COOL_DOWN_SECONDS)
        if not self._keys:
            raise Problem(503, "the issuer's keys cannot be had now", headers=(("Retry-After", "10"),))
        if name not in self._keys:
            raise unauthorized("the token is signed with a key that its issuer does not publish", "invalid_token")
        return self._keys[name]

    def _client(self, claims: dict[str, Any]) -> str:
        issuer = self._issuer
        scopes = claims.get("scope") or claims.get("scp") or ""
        held = scopes.split() if isinstance(scopes, str) else scopes
        if issuer.scope and not (isinstance(held, list) and issuer.scope in held):
            challenge = f'Bearer realm="credit-risk", error="insufficient_scope", scope="{issuer.scope}"'
            raise Problem(403, f"the token lacks the scope {issuer.scope}", headers=(("WWW-Authenticate", challenge),))
        names = (issuer.client_claim,) if issuer.client_claim else ("azp", "client_id", "sub")
        client = next((claims[name] for name in names if isinstance(claims.get(name), str)), None)
        if not client:
            raise unauthorized(f"the token names no client: it has no claim {' or '.join(names)}", "invalid_token")
        return str(client)

    async def _refresh(self, cool_down: float) -> None:
        async with self._asking:
            if time.monotonic() - self._asked < cool_down:
                return
            self._asked = time.monotonic()
            try:
                self._keys = await self._fetch()
                self._known.clear()
            except IssuerUnavailableError as error:
                log.warning("the keys of %s are not refreshed: %s", self._issuer.url, error)

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        url = self._issuer.keys_url or await self._described()
        keys = {}
        for document in (await self._json(url)).get("keys") or ():
            try:
                key = jwt.PyJWK(document)
            except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
                log.warning("a key of %s is left out: %s", url, error)
                continue
            if key.algorithm_name in ALGORITHMS and key.public_key_use in {None, "sig"}:
                keys[key.key_id or ""] = key
        if not keys:
            raise IssuerUnavailableError(f"{url} has no key that can be used")
        return keys

    async def _described(self) -> str:
        described = await self._json(f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != self._issuer.url:
            raise IssuerUnavailableError(f"it calls itself {described.get('issuer')!r}")
        return str(described.get("jwks_uri"))

    async def _json(self, url: str) -> dict:  # type: ignore[type-arg]
        try:
            async with self._session.get(url) as answer:
                answer.raise_for_status()
                return msgspec.json.decode(await answer.read(), type=dict)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, ValueError) as error:
            raise IssuerUnavailableError(f"{url}: {error or type(error).__name__}") from error
