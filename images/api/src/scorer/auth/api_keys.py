"""API keys: a folder with one file per client, which holds the SHA-256 of each of the client's keys, one per line.

A mounted Secret is such a folder. Keys are 256 random bits, too many to try, so a plain hash is enough.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from scorer.auth.authenticator import unauthorized

log = logging.getLogger(__name__)
_HASH = re.compile(r"[0-9a-fA-F]{64}")


class ApiKeys:
    """The clients in a folder, as of its last change."""

    def __init__(self, folder: Path) -> None:
        """Read the folder; a missing one has no clients."""
        self._folder = folder
        self._stamp: object = None
        self._hashes: tuple[tuple[str, bytes], ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the folder again if it changed."""
        stamp = self._file_stats()
        if stamp != self._stamp:
            self._stamp = stamp
            self._hashes = tuple(self._read())
            log.info("loaded %d API keys of %d clients", len(self._hashes), len({client for client, _ in self._hashes}))

    async def keep_reading(self, seconds: float) -> None:
        """Refresh at this interval until cancelled, so that keys can be added and revoked without a restart."""
        while True:
            await asyncio.sleep(seconds)
            self.refresh()

    async def identify(self, credential: str) -> str:
        """Return the name of the client with this key, in the same time for every key.

        Raises:
            Problem: 401 if no client has it.
        """
        digest = hashlib.sha256(credential.encode("latin-1", "replace")).digest()
        found = ""
        for client, known in self._hashes:
            if hmac.compare_digest(digest, known):
                found = client
        if not found:
            raise unauthorized("unknown API key", "invalid_token")
        return found

    def _files(self) -> list[Path]:
        try:
            # A mounted Secret also has entries of the kubelet's, such as ..data.
            return sorted(file for file in self._folder.iterdir() if not file.name.startswith(".") and file.is_file())
        except OSError:
            return []

    def _file_stats(self) -> list[tuple[str, int, int, int]]:
        stats = []
        for file in self._files():
            try:
                found = file.stat()
            except OSError:
                continue
            stats.append((file.name, found.st_mtime_ns, found.st_ino, found.st_size))
        return stats

    def _read(self) -> Iterator[tuple[str, bytes]]:
        for file in self._files():
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
