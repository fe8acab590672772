"""Who may do what: clients by API keys, in the scoring service's form, each with the permissions that it was given.

The keys are a folder with one file per client, which holds the SHA-256 of each of the client's keys, one per line; a
mounted Secret is such a folder. With an issuer of OpenID Connect, clients may have its tokens instead.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from decisions.service.problems import Problem, unauthorized
from decisions.settings import Permission

log = logging.getLogger(__name__)
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_SECONDS_BETWEEN_READS = 1.0
_BEARER = HTTPBearer(auto_error=False, description="An API key, or a token")
_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key")


class ApiKeys:
    """The clients in a folder; it is read again when it changed."""

    def __init__(self, folder: Path) -> None:
        """Read the folder; a missing one has no clients."""
        self._folder = folder
        self._stamp: object = None
        self._hashes: tuple[tuple[str, bytes], ...] = ()
        self._read_again_at = 0.0

    def client_of(self, key: str) -> str | None:
        """Return the name of the client with this key, in the same time for every key."""
        self._refresh()
        digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
        found = None
        for client, known in self._hashes:
            if hmac.compare_digest(digest, known):
                found = client
        return found

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._read_again_at:
            return
        self._read_again_at = now + _SECONDS_BETWEEN_READS
        stamp = [(file.name, found.st_mtime_ns, found.st_ino, found.st_size) for file, found in self._files()]
        if stamp != self._stamp:
            self._stamp, self._hashes = stamp, tuple(self._read())
            log.info("loaded %d API keys of %d clients", len(self._hashes), len({client for client, _ in self._hashes}))

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        try:
            # A mounted Secret also has entries of the kubelet's, such as ..data.
            files = sorted(file for file in self._folder.iterdir() if not file.name.startswith("."))
        except OSError:
            return
        for file in files:
            try:
                if file.is_file():
                    yield file, file.stat()
            except OSError:
                continue

    def _read(self) -> Iterator[tuple[str, bytes]]:
        for file, _ in self._files():
            try:
                lines = file.read_text("utf-8", "replace").splitlines()
            except OSError as error:
                log.warning("cannot read the keys of client %s: %s", file.name, error)
                continue
            for number, line in enumerate(lines, 1):
                text = line.partition("#")[0].strip()
                if _HASH.fullmatch(text):
                    yield file.name, bytes.fromhex(text)
                elif text:
                    log.warning("line %d of %s is not a SHA-256 in hex; skipped", number, file.name)


class TokenClients(Protocol):
    """Identifies clients by tokens; `decisions.service.tokens` does, and is imported only where there is an issuer."""

    async def client_of(self, token: str) -> str:
        """Return the client as permissions name it, or raise a Problem."""
        ...

    async def open(self) -> None:
        """Begin to fetch keys."""
        ...

    async def close(self) -> None:
        """Stop fetching keys."""
        ...


@dataclass(frozen=True)
class Access:
    """Which client has which permissions."""

    keys: ApiKeys
    permissions: Mapping[Permission, frozenset[str]]
    tokens: TokenClients | None = None

    async def check(self, key: str | None, bearer: str | None, permission: Permission) -> str:
        """Return the name of the client with a key or token, if it has the permission.

        Raises:
            Problem: 401 if it is nobody's, 403 if the client lacks the permission, 503 if tokens cannot be verified.
        """
        client = await self._client(key, bearer)
        if client not in self.permissions.get(permission, ()):
            raise Problem(403, f"the client {client} lacks the permission {permission}")
        return client

    async def _client(self, key: str | None, bearer: str | None) -> str:
        if not (key or bearer):
            kind = "key or token" if self.tokens else "key"
            raise unauthorized(f"a {kind} is required: Authorization: Bearer ..., or X-API-Key: ...")
        client = self.keys.client_of(key or bearer or "")
        if client is None and bearer and not key and self.tokens:
            client = await self.tokens.client_of(bearer)
        if client is None:
            raise unauthorized("unknown API key", "invalid_token")
        return client


def permitted(permission: Permission) -> Callable[..., Awaitable[str]]:
    """Return the dependency that admits clients with a permission, and says which one it was."""

    async def client(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        key: Annotated[str | None, Security(_KEY)],
    ) -> str:
        access: Access = request.app.state.service.access
        name = await access.check(key, bearer.credentials if bearer else None, permission)
        request.scope["decisions.client"] = name
        return name

    return client


Reader = Annotated[str, Security(permitted("decisions:read"))]
ReplayClient = Annotated[str, Security(permitted("decisions:replay"))]
DriftReader = Annotated[str, Security(permitted("drift:read"))]
Forgetter = Annotated[str, Security(permitted("decisions:forget"))]
OutcomeReporter = Annotated[str, Security(permitted("outcomes:write"))]
CheckClient = Annotated[str, Security(permitted("decisions:check"))]
TimelineReporter = Annotated[str, Security(permitted("timeline:write"))]
