"""A segment: a SQLite file with groups of events, as contracts/decision-segment.sql describes it."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import msgspec

# Large pages, because each costs three system calls: two for the write-ahead log, then one for the file. A group of a
# busy pod has hundreds of kilobytes.
_PAGE_BYTES = 32768
SCHEMA = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA application_id = 1129464908;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE log (id BLOB NOT NULL CHECK (length(id) = 16), pod TEXT NOT NULL) STRICT;
CREATE TABLE versions (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digests TEXT NOT NULL,
    contract BLOB NOT NULL
) STRICT;
CREATE TABLE groups (
    number INTEGER PRIMARY KEY,
    seed BLOB NOT NULL CHECK (length(seed) = 16),
    decisions INTEGER NOT NULL,
    events BLOB NOT NULL
) STRICT;
"""
_SETTINGS = """
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 128;
PRAGMA busy_timeout = 5000;
"""


class Version(msgspec.Struct, frozen=True):
    """A model version that events name by its key; the contract is contract.json, byte for byte."""

    key: int
    name: str
    version: str
    digests: dict[str, str]
    contract: bytes


def most_bytes(events: int) -> int:
    """Return how much a group of so many bytes may take on disk: in the write-ahead log, and then in the file."""
    return 2 * (events + 2 * _PAGE_BYTES)


class Segment:
    """A segment that is being written; any thread may use it, one at a time."""

    def __init__(self, file: Path, log_id: uuid.UUID, pod: str) -> None:
        """Create the file, complete from the moment it has its name.

        Raises:
            sqlite3.Error: If it cannot be created.
            OSError: Likewise.
        """
        self._file, self._known = file, set[int]()
        # Bytes of the events in it, which is about what it will have on disk.
        self.bytes = 0
        unfinished = file.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        _create(unfinished, log_id, pod)
        self._inode = unfinished.stat().st_ino
        unfinished.rename(file)
        _sync(file.parent)
        self._database = _connect(file)
        try:
            self._database.executescript(_SETTINGS)
        except sqlite3.Error:
            self._database.close()
            raise

    @property
    def exists(self) -> bool:
        """Whether the file is still there: SQLite would go on to write to a deleted one."""
        try:
            return self._file.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def write(self, number: int, decisions: int, events: bytes | bytearray, versions: Iterable[Version]) -> float:
        """Make a group durable, and return the time that took, in seconds.

        Args:
            number: The group's.
            decisions: How many are in it.
            events: MessagePack, an array of events.
            versions: The versions that the events name.

        Raises:
            sqlite3.Error: If the group is not in the segment; the same call can be repeated.
        """
        database = self._database
        new = [version for version in versions if version.key not in self._known]
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?)",
                [(v.key, v.name, v.version, msgspec.json.encode(v.digests).decode(), v.contract) for v in new],
            )
            database.execute(
                "INSERT INTO groups VALUES (?, ?, ?, ?)", (number, secrets.token_bytes(16), decisions, events)
            )
            started = time.perf_counter()
            database.execute("COMMIT")
        finally:
            # SQLite has already done so after some errors.
            if database.in_transaction:
                database.execute("ROLLBACK")
        self._known.update(version.key for version in new)
        self.bytes += len(events)
        return time.perf_counter() - started

    def close(self) -> None:
        """Move everything to the file itself, unless a reader keeps it from that, and close it."""
        self._database.close()


def _create(file: Path, log_id: uuid.UUID, pod: str) -> None:
    database = _connect(file)
    try:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO log VALUES (?, ?)", (log_id.bytes, pod))
        database.execute("COMMIT")
    finally:
        database.close()


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None, check_same_thread=False)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
