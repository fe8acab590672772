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
    "first_id", "request_id", "endpoint", "role", "client", "version", "latency", "rows", "applicant_ids", "numeric",
    "categorical", "probability", "points", "declined", "reasons",
)  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One decision of an event, with the columns of its row."""

    id: str
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
    rows = range(count) if event["rows"] is None else np.frombuffer(event["rows"], "<i4").tolist()
    ids = event["applicant_ids"] or [None] * count
    numeric = np.frombuffer(event["numeric"], "<f4").reshape(count, -1).tolist()
    codes = np.frombuffer(event["categorical"], "<i8").reshape(count, -1).tolist()
    points = struct.unpack(f"<{count}i", event["points"])
    columns = zip(rows, ids, numeric, codes, probabilities.tolist(), points, event["declined"], strict=True)
    for row, applicant, numbers, categories, probability, score, declined in columns:
        yield Decision(
            text_of(event["first_id"], row), row, applicant, tuple(numbers), tuple(categories), probability, score,
            ("approve", "decline")[declined], event,
        )  # fmt: skip


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
