"""The audit log: one JSON line per answer with its client, model and decision; no applicant's data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from scorer.request_context import client

_encode = msgspec.json.Encoder().encode


class AuditLog:
    """Writes the lines; each is complete and flushed before its answer is sent."""

    def __init__(self, out: BinaryIO) -> None:
        """Take the stream to write to."""
        self._out = out

    def write(self, event: str, **fields: object) -> None:
        """Write an event with its time and its client, "" if access is open."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._out.write(_encode({"audit": event, "time": now, "client": client.get(), **fields}) + b"\n")
        self._out.flush()
