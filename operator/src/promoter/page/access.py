"""Who may see the page: clients with an API key, in the form and from a Secret like the scoring service's.

The keys are a folder with one file per client, which holds the SHA-256 of each of the client's keys, one per line; a
mounted Secret is such a folder. Keys are 256 random bits, too many to try, so a plain hash is enough.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_HASH = re.compile(r"[0-9a-fA-F]{64}")
# A browser asks for the first, and sends it from then on, also when it follows events.
CHALLENGES = ('Basic realm="rollouts: any name, and an API key as the password", charset="UTF-8"',
              'Bearer realm="rollouts"')  # fmt: skip


class KeyAccess:
    """Admits requests with a key of the folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is read at each request, because keys are added and revoked."""
        self._folder = folder

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has a key, in the same time for every key."""
        key = presented_key(headers)
        digest = hashlib.sha256(key.encode()).digest()
        found = False
        for known in self._hashes():
            found |= hmac.compare_digest(digest, known)
        return found and bool(key)

    def _hashes(self) -> Iterator[bytes]:
        try:
            # A mounted Secret also has entries of the kubelet's, such as ..data.
            files = [file for file in self._folder.iterdir() if not file.name.startswith(".") and file.is_file()]
            lines = [line for file in files for line in file.read_text("utf-8", "replace").splitlines()]
        except OSError:
            return
        for line in lines:
            if _HASH.fullmatch(entry := line.partition("#")[0].strip()):
                yield bytes.fromhex(entry)


class OpenAccess:
    """Admits everybody."""

    def admits(self, _: Mapping[str, str]) -> bool:
        """Return true."""
        return True


def presented_key(headers: Mapping[str, str]) -> str:
    """Return the key of a request: the password of HTTP Basic, a bearer token, or X-API-Key; "" without one."""
    kind, _, credential = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return credential.strip()
    if kind.lower() != "basic":
        return headers.get("X-API-Key", "")
    try:
        return base64.b64decode(credential, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
