"""Reading a segment while another process writes to it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from decisions.errors import DamagedError, DecisionsError

_APPLICATION_ID = 1129464908
_FORMAT = 1
_BUSY_SECONDS = 5.0
# The file may be whole although it cannot be read now: the primary result codes of SQLite for that.
_TRANSIENT = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip


class UnreadableError(DecisionsError):
    """A segment that cannot be read now, although it may be whole."""


@dataclass(frozen=True)
class SegmentVersion:
    """A model version as a segment has it; `digests` is a JSON object."""

    key: int
    name: str
    version: str
    digests: str
    contract: bytes


@dataclass(frozen=True)
class Group:
    """Decisions that were made durable together; `events` is MessagePack."""

    number: int
    seed: bytes
    decisions: int
    events: bytes


@dataclass(frozen=True)
class DamagedGroup:
    """A group that cannot be read, and why."""

    number: int
    cause: str


class SegmentReader:
    """An open segment; every statement is a transaction of its own, so that the writer can reuse its write-ahead log.

    Its methods raise DamagedError if the file is not a segment, and UnreadableError if it cannot be read now.
    """

    def __init__(self, file: Path, log_id: UUID) -> None:
        """Open the segment of a log."""
        self.file = file
        with self._errors():
            self._database = sqlite3.connect(
                f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
            )
        try:
            self.pod = self._check(log_id)
        except DecisionsError:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def versions(self) -> list[SegmentVersion]:
        """Return the model versions that its events may name."""
        rows = self._rows("SELECT key, name, version, digests, contract FROM versions")
        return [SegmentVersion(*row) for row in rows if _fits(row, (int, str, str, str, bytes))]

    def groups(self, after: int) -> Iterator[Group | DamagedGroup]:
        """Yield the groups that it has now with a number above `after`, in the order of their numbers."""
        first, last = self._rows("SELECT min(number), max(number) FROM groups")[0]
        if first is None:
            return
        for number in range(max(int(first), after + 1), int(last) + 1):
            yield self._group(number)

    def bytes_after(self, number: int) -> int:
        """Return how many bytes of events follow a group."""
        query = "SELECT coalesce(sum(length(events)), 0) FROM groups WHERE number > ?"
        return int(self._rows(query, number)[0][0])

    def _group(self, number: int) -> Group | DamagedGroup:
        try:
            rows = self._rows("SELECT number, seed, decisions, events FROM groups WHERE number = ?", number)
        except DamagedError as error:
            return DamagedGroup(number, str(error))
        if not rows:
            return DamagedGroup(number, "it is missing, although others follow it")
        if not _fits(rows[0], (int, bytes, int, bytes)) or len(rows[0][1]) != 16:
            return DamagedGroup(number, "its columns do not have the types of a group")
        return Group(*rows[0])

    def _check(self, log_id: UUID) -> str:
        """Return the pod's name, if this is a segment of the log."""
        ((application,),) = self._rows("PRAGMA application_id")
        if application != _APPLICATION_ID:
            raise DamagedError(f"not a segment: its application_id is {application} instead of {_APPLICATION_ID}")
        ((version,),) = self._rows("PRAGMA user_version")
        if version != _FORMAT:
            raise UnreadableError(f"{self.file}: a segment of version {version}; this shipper reads version {_FORMAT}")
        rows = self._rows("SELECT id, pod FROM log")
        if len(rows) != 1 or not _fits(rows[0], (bytes, str)):
            raise DamagedError("the table `log` does not have one row with id and pod")
        if rows[0][0] != log_id.bytes:
            raise DamagedError(f"it belongs to the log {rows[0][0].hex()}, and its folder to {log_id}")
        return str(rows[0][1])

    def _rows(self, query: str, *parameters: int) -> list[Any]:
        with self._errors():
            return self._database.execute(query, parameters).fetchall()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF in _TRANSIENT and code != sqlite3.SQLITE_IOERR_SHORT_READ:
                raise UnreadableError(f"{self.file}: {error}") from error
            raise DamagedError(str(error)) from error


def copy_to(segment: Path, target: Path) -> None:
    """Write all that a segment has now to one file, whatever SQLite keeps beside it.

    Raises:
        DamagedError: It cannot be read.
    """
    source = sqlite3.connect(f"{segment.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    except sqlite3.DatabaseError as error:
        raise DamagedError(str(error)) from error
    finally:
        copy.close()
        source.close()


def _fits(row: tuple[Any, ...], types: tuple[type, ...]) -> bool:
    return all(isinstance(value, kind) for value, kind in zip(row, types, strict=True))
