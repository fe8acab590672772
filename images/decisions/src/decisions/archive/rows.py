"""Decisions as the database has them, in the order of their logs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from decisions.database.id_ranges import first_id, time_of
from decisions.records.record import DecisionInputs, Record

# A range of ids in the join as well, for the planner to read the partitions of that range alone.
_SELECT = """
SELECT d.id::text, request_id, "row", endpoint, role, client, model_version::text, probability, points, decision,
       grade, reasons, latency_us, pod, log_id::text, sequence, inputs_hash, previous_hash, hash, salt, applicant_id,
       inputs::text
FROM decisions d LEFT JOIN decision_inputs i ON i.id = d.id
"""
_OF_DAY = f"{_SELECT} AND i.id >= %(first)s AND i.id < %(end)s WHERE d.id >= %(first)s AND d.id < %(end)s " \
          "ORDER BY log_id, sequence, d.id"  # fmt: skip
_OF_LOG = f"{_SELECT} WHERE log_id = %(log)s AND sequence >= %(first)s AND sequence <= %(last)s ORDER BY sequence, d.id"
_LEAVES = "SELECT id, hash FROM decisions WHERE log_id = %(log)s AND sequence >= %(first)s AND sequence <= %(last)s " \
          "ORDER BY sequence, id"  # fmt: skip
# The next log in the index's order, again and again: there are far fewer logs than decisions.
_LOGS = """
WITH RECURSIVE logs AS (
    (SELECT log_id FROM decisions ORDER BY log_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.log_id FROM decisions d WHERE d.log_id > logs.log_id ORDER BY d.log_id LIMIT 1)
    FROM logs WHERE logs.log_id IS NOT NULL
)
SELECT log_id::text FROM logs WHERE log_id IS NOT NULL ORDER BY log_id
"""
_FETCHED = 2_000
_names = itertools.count()


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision as it is stored; its inputs are None if they were forgotten."""

    record: Record
    previous_hash: bytes
    hash: bytes
    inputs: DecisionInputs | None

    @property
    def place(self) -> tuple[str, int]:
        """Its log and its sequence there, by which decisions are ordered."""
        return self.record.log_id, self.record.sequence

    @property
    def day(self) -> date:
        """The day, in UTC, that it was made on."""
        return time_of(UUID(self.record.id)).date()


def decisions_of_day(connection: psycopg.Connection, day: date) -> Iterator[StoredDecision]:
    """Yield the decisions of a day by log and sequence; the connection is in a transaction."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _stored(connection, _OF_DAY, first=first_id(start), end=first_id(start + timedelta(days=1)))


def decisions_of_log(connection: psycopg.Connection, log_id: str, first: int, last: int) -> Iterator[StoredDecision]:
    """Yield the decisions of a log from one sequence to another; the connection is in a transaction."""
    return _stored(connection, _OF_LOG, log=log_id, first=first, last=last)


def leaves_of_log(connection: psycopg.Connection, log_id: str, first: int, last: int) -> Iterator[tuple[UUID, bytes]]:
    """Yield the ids and hashes of a log from one sequence to another; the connection is in a transaction."""
    return _fetched(connection, _LEAVES, log=log_id, first=first, last=last)


def logs(connection: psycopg.Connection) -> list[str]:
    """Return the ids of all logs, in their order."""
    return [log_id for (log_id,) in connection.execute(_LOGS).fetchall()]


def _stored(connection: psycopg.Connection, query: str, **parameters: object) -> Iterator[StoredDecision]:
    for row in _fetched(connection, query, **parameters):
        *values, inputs_hash, previous_hash, hash_, salt, applicant_id, inputs = row
        yield StoredDecision(
            Record(*[*values, inputs_hash.hex()]), previous_hash, hash_,
            None if salt is None else DecisionInputs(applicant_id, salt, inputs),
        )  # fmt: skip


def _fetched(connection: psycopg.Connection, query: str, **parameters: object) -> Iterator[tuple[Any, ...]]:
    # At the server, which sends some rows at a time.
    with connection.cursor(f"stored_{next(_names)}") as cursor:
        cursor.itersize = _FETCHED
        yield from cursor.execute(query.encode(), parameters)
