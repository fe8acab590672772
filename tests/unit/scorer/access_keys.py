"""API keys for tests of access control."""

from __future__ import annotations

import hashlib
from pathlib import Path

KEYS = {"lender": "k-lender", "broker": "k-broker"}


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write_keys(folder: Path) -> Path:
    """Write a file with the hash of its key for each client."""
    for client, key in KEYS.items():
        (folder / client).write_text(f"{hashed(key)}\n")
    return folder
