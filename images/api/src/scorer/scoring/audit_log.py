"""A line of JSON for each answer, on stdout: who asked, which model, what it said; no applicant's data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from scorer.auth.middleware import client

_encode = msgspec.json.Encoder().encode


class AuditLog:
    """Writes the lines; each is whole and out before its answer is."""

    def __init__(self, out: BinaryIO) -> None:
        """Take where to write."""
        self._out = out

    def write(self, event: str, **fields: object) -> None:
        """Write what happened, when, and for which client ("" where access is open to all)."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._out.write(_encode({"audit": event, "time": now, "client": client.get(), **fields}) + b"\n")
        self._out.flush()
