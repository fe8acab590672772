"""API keys: a folder with one file per client, which holds the SHA-256 of each of the client's keys, one a line.

A mounted Secret is such a folder. Keys are random, 256 bits of them, so a plain hash does: nobody can try them all.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from scorer.auth.middleware import unauthorized

log = logging.getLogger(__name__)
_HASH = re.compile(r"[0-9a-fA-F]{64}")


class ApiKeys:
    """The clients of one folder, as of its last change."""

    def __init__(self, folder: Path) -> None:
        """Read the folder; one that is not there knows nobody."""
        self._folder = folder
        self._stamp: object = None
        self._hashes: tuple[tuple[str, bytes], ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the folder again if it changed."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            self._hashes = tuple(self._read())
            log.info("%d API keys of %d clients", len(self._hashes), len({client for client, _ in self._hashes}))

    async def keep_reading(self, seconds: float) -> None:
        """Refresh every so many seconds, until cancelled: keys come and go without a restart."""
        while True:
            await asyncio.sleep(seconds)
            self.refresh()

    async def identify(self, credential: str) -> str:
        """Return the name of the client whose key this is; takes as long for every key.

        Raises:
            Problem: 401 when it is nobody's.
        """
        digest = hashlib.sha256(credential.encode("latin-1", "replace")).digest()
        found = ""
        for client, known in self._hashes:
            if hmac.compare_digest(digest, known):
                found = client
        if not found:
            raise unauthorized("the API key is not known", "invalid_token")
        return found

    def _files(self) -> list[Path]:
        try:
            # The kubelet keeps its own entries, ..data and the like, beside them.
            return sorted(file for file in self._folder.iterdir() if not file.name.startswith(".") and file.is_file())
        except OSError:
            return []

    def _look(self) -> list[tuple[str, int, int, int]]:
        looks = []
        for file in self._files():
            try:
                found = file.stat()
            except OSError:
                continue
            looks.append((file.name, found.st_mtime_ns, found.st_ino, found.st_size))
        return looks

    def _read(self) -> Iterator[tuple[str, bytes]]:
        for file in self._files():
            try:
                lines = file.read_text("utf-8", "replace").splitlines()
            except OSError as error:
                log.warning("the keys of %s cannot be read: %s", file.name, error)
                continue
            for number, line in enumerate(lines, 1):
                text = line.partition("#")[0].strip()
                if _HASH.fullmatch(text):
                    yield file.name, bytes.fromhex(text)
                elif text:
                    log.warning("line %d of %s is no SHA-256 in hex; it is left out", number, file.name)
