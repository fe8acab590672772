"""Writes logs as contracts/decision-segment.sql says, for tests of those who read them."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import numpy as np

from conftest import REPOSITORY
from decisions.records.model_versions import ModelVersion
from decisions.segments.events import Event
from unit.decisions.golden import model_version

SCHEMA = (REPOSITORY / "contracts" / "decision-segment.sql").read_text("utf-8")
_clock = [0]


def new_id() -> bytes:
    """Return a UUIDv7 of now that is greater than those before it, with room for the rows of a batch."""
    _clock[0] = max(_clock[0] + 1, time.time_ns() // 1_000_000)
    return ((_clock[0] << 80) | (7 << 76) | (2 << 62) | (int.from_bytes(os.urandom(4), "big") << 24)).to_bytes(
        16, "big"
    )


def event(count: int = 1, *, version: int = 1, first_id: bytes = b"", request_id: str = "") -> Event:
    """Return an event with the shape of the golden model contract, each with other numbers."""
    noise = np.random.default_rng()
    return Event(
        first_id or new_id(), request_id or os.urandom(8).hex(), "batch" if count > 1 else "score", "champion",
        "branch", version, 1200, None, [f"A-{os.urandom(3).hex()}" for _ in range(count)],
        noise.uniform(300, 850, (count, 3)).astype("<f4").tobytes(),
        noise.integers(0, 5, (count, 1)).astype("<i8").tobytes(), noise.random(count).astype("<f4").tobytes(),
        noise.integers(200, 800, count).astype("<i4").tobytes(), noise.integers(0, 2, count).astype("u1").tobytes(),
        [["R01", "R02"]] if count == 1 else None,
    )  # fmt: skip


def singles(count: int) -> Event:
    """Return one event of single applications of so many requests."""
    return msgspec.structs.replace(
        event(count), ids=b"".join(new_id() for _ in range(count)), endpoint="score", rows=bytes(4 * count),
        request_id=[os.urandom(8).hex() for _ in range(count)], latency=np.arange(count, dtype="<i4").tobytes(),
        role=["champion", *["fall-back"] * (count - 1)], client=[f"branch-{number % 3}" for number in range(count)],
        reasons=[["R01"] if number % 2 else None for number in range(count)],
    )  # fmt: skip


class LogWriter:
    """A log that is being written."""

    def __init__(self, logs: Path, pod: str = "scoring-a", log_id: UUID | None = None) -> None:
        self.log_id, self.pod = log_id or uuid4(), pod
        self.path = logs / pod / str(self.log_id)
        self.path.mkdir(parents=True)
        self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_WRONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.group = self.segment = 0
        self.ids: list[UUID] = []
        self._database: sqlite3.Connection | None = None
        self.rotate()

    @property
    def file(self) -> Path:
        return self.path / f"segment-{self.segment:08d}.sqlite"

    def rotate(self) -> None:
        """Begin another segment."""
        if self._database:
            self._database.close()
        self.segment += 1
        self._database = sqlite3.connect(self.file, isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")
        self._database.executescript(SCHEMA)
        self._database.execute("INSERT INTO log VALUES (?, ?)", (self.log_id.bytes, self.pod))
        self.add_version(1, model_version())

    def add_version(self, key: int, version: ModelVersion) -> None:
        values = (key, version.name, version.version, json.dumps(dict(version.digests)), version.contract)
        self.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?)", *values)

    def write(self, *events: Event, decisions: int | None = None) -> None:
        """Write a group."""
        self.write_packed(
            msgspec.msgpack.encode(events), sum(e.count for e in events) if decisions is None else decisions
        )
        for written in events:
            self.ids += [UUID(bytes=id_) for id_ in written.row_ids]

    def write_packed(self, events: bytes, decisions: int) -> None:
        self.group += 1
        self.execute("INSERT INTO groups VALUES (?, ?, ?, ?)", self.group, os.urandom(16), decisions, events)

    def write_groups(self, counts: Sequence[int]) -> None:
        """Write a group of single applications for each number of them."""
        for count in counts:
            self.write(*(event() for _ in range(count)))

    def execute(self, statement: str, *parameters: object) -> None:
        assert self._database
        self._database.execute(statement, parameters)

    def close(self) -> None:
        """End the log: its segment is closed, and its lock released."""
        if self._database:
            self._database.close()
            self._database = None
            os.close(self._lock)

    def die(self) -> None:
        """End as a killed process does: nothing is moved from the write-ahead log to the file."""
        assert self._database
        copies = {file: file.read_bytes() for file in self.path.glob(self.file.name + "*")}
        self.close()
        for file, content in copies.items():
            file.write_bytes(content)
        self.file.with_name(self.file.name + "-shm").unlink()
