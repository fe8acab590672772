"""Decision logs for tests: one in the event loop, and what its segments hold, read as the agreement says."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from scorer.decision_log.log import DecisionLog, Mode
from scorer.decision_log.metrics import LogMetrics
from scorer.decision_log.writer import SegmentWriter
from unit.scorer.contracts import FOLDER as CONTRACTS

POD = "pod-1"
AGREEMENT = CONTRACTS / "decision-segment.sql"
FIELDS = (
    "ids", "request_id", "endpoint", "role", "client", "version", "latency", "rows", "applicant_ids", "numeric",
    "categorical", "probability", "points", "declined", "reasons",
)  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One decision of an event, with the columns of its row."""

    id: str
    request_id: str
    role: str
    client: str
    latency: int
    reasons: list[str] | None
    row: int
    applicant_id: str | None
    numeric: tuple[float, ...]
    codes: tuple[int, ...]
    probability: float
    points: int
    decision: str
    event: dict[str, Any]


def segments(folder: Path) -> list[Path]:
    """Return all segments of all logs, in the order in which they were written."""
    return sorted(folder.glob("*/*/segment-*.sqlite"))


def groups(folder: Path) -> Iterator[tuple[int, int, list[dict[str, Any]]]]:
    """Yield each group's number, its count of decisions, and its events."""
    for file in segments(folder):
        with contextlib.closing(sqlite3.connect(file)) as database:
            for number, decisions, events in database.execute("SELECT number, decisions, events FROM groups"):
                documents = msgspec.msgpack.decode(events)
                assert {len(document) for document in documents} == {len(FIELDS)}
                yield number, decisions, [dict(zip(FIELDS, document, strict=True)) for document in documents]


def decisions(folder: Path) -> list[Decision]:
    """Return all decisions in the order of their groups; each group's count is checked."""
    found: list[Decision] = []
    for _, count, events in groups(folder):
        of_group = [decision for event in events for decision in _decisions_of(event)]
        assert len(of_group) == count
        found += of_group
    return found


def text_of(identity: bytes, row: int = 0) -> str:
    digits = f"{int.from_bytes(identity, 'big') + row:032x}"
    return "-".join(digits[start:end] for start, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))


def _decisions_of(event: dict[str, Any]) -> Iterator[Decision]:
    probabilities = np.frombuffer(event["probability"], "<f4")
    count = len(probabilities)

    def of_rows(value: Any) -> list[Any]:
        """Return what an event has once for all rows, or once for each."""
        return value if isinstance(value, list) else [value] * count

    rows = range(count) if event["rows"] is None else np.frombuffer(event["rows"], "<i4").tolist()
    latency = event["latency"]
    columns = zip(
        _ids_of(event["ids"], count), of_rows(event["request_id"]), of_rows(event["role"]), of_rows(event["client"]),
        struct.unpack(f"<{count}i", latency) if isinstance(latency, bytes) else [latency] * count,
        of_rows(event["reasons"]), rows, event["applicant_ids"] or [None] * count,
        np.frombuffer(event["numeric"], "<f4").reshape(count, -1).tolist(),
        np.frombuffer(event["categorical"], "<i8").reshape(count, -1).tolist(), probabilities.tolist(),
        struct.unpack(f"<{count}i", event["points"]), event["declined"], strict=True,
    )  # fmt: skip
    for *shared, row, applicant, numbers, categories, probability, score, declined in columns:
        yield Decision(  # type: ignore[call-arg]  # zip of so many columns has no types
            *shared, row, applicant, tuple(numbers), tuple(categories), probability, score,
            ("approve", "decline")[declined], event,
        )  # fmt: skip


def _ids_of(ids: bytes, count: int) -> list[str]:
    if len(ids) == 16:
        return [text_of(ids, row) for row in range(count)]
    return [text_of(ids[at : at + 16]) for at in range(0, len(ids), 16)]


@dataclass(frozen=True)
class Running:
    """A decision log and its metrics."""

    log: DecisionLog
    writer: SegmentWriter
    registry: CollectorRegistry

    def not_logged(self, cause: str) -> float:
        return self.registry.get_sample_value("scorer_decisions_not_logged_total", {"cause": cause}) or 0.0

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"scorer_decision_log_{name}") or 0.0


@contextlib.asynccontextmanager
async def decision_log(
    folder: Path, mode: Mode = "log", *, max_bytes: int = 2**30, registry: CollectorRegistry | None = None
) -> AsyncIterator[Running]:
    """Run a decision log, and end it."""
    writer, registry = SegmentWriter(folder, POD, max_bytes), registry or CollectorRegistry()
    log = DecisionLog(writer, mode, LogMetrics(registry))
    log.start()
    try:
        yield Running(log, writer, registry)
    finally:
        await log.close()
