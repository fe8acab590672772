"""The training table: decisions that clients got, their inputs, and what became of the loans.

A decision is in it if it is older than the time in which a loan matures, and its loan was repaid or defaulted. Younger
ones are left out even if their outcome is known, because early outcomes are defaults more often than late ones.
Rejected applicants have no outcome, so the table says nothing about them; the summary says how many they are. On
request they are in it with their scores and without an outcome, for whoever wants to infer one.
"""

from __future__ import annotations

import calendar
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from pydantic import BaseModel, Field

from decisions.database.id_ranges import FIRST_ID, LAST_ID, first_id, time_of
from decisions.errors import UsageError

# Written for a category outside of a model's list; no contract has it as a category, since they are names of things.
OTHER = "(other)"
_ID, _TIME = "decision_id", "decided_at"
PROBABILITY = "probability_of_default"
_BATCH_ROWS = 20_000
_OUTCOME_BYTE = {"repaid": b"\0", "defaulted": b"\1", None: b"\2"}
_ROWS = """
    FROM decisions d
    JOIN decision_inputs i ON i.id = d.id AND i.id >= %(low)s AND i.id < %(mature)s
    JOIN current_outcomes o ON o.decision_id = d.id AND o.decision_id >= %(low)s AND o.decision_id < %(mature)s
    WHERE d.id >= %(low)s AND d.id < %(mature)s AND d.role <> 'shadow' AND o.outcome IN ('repaid', 'defaulted')
"""
_ROWS_AND_REJECTED = """
    FROM decisions d
    JOIN decision_inputs i ON i.id = d.id AND i.id >= %(low)s AND i.id < %(mature)s
    LEFT JOIN current_outcomes o ON o.decision_id = d.id AND o.decision_id >= %(low)s AND o.decision_id < %(mature)s
        AND o.outcome IN ('repaid', 'defaulted')
    WHERE d.id >= %(low)s AND d.id < %(mature)s AND d.role <> 'shadow'
        AND (o.outcome IS NOT NULL OR d.decision = 'decline')
"""
_COUNTS = """
    SELECT
        count(*) FILTER (WHERE d.id >= %(mature)s) AS too_young,
        count(*) FILTER (WHERE d.id < %(mature)s AND known AND i.id IS NULL) AS forgotten,
        count(*) FILTER (WHERE d.id < %(mature)s AND i.id IS NOT NULL AND o.outcome = 'repaid') AS repaid,
        count(*) FILTER (WHERE d.id < %(mature)s AND i.id IS NOT NULL AND o.outcome = 'defaulted') AS defaulted,
        count(*) FILTER (WHERE d.id < %(mature)s AND NOT known AND d.decision = 'decline') AS rejected,
        count(*) FILTER (WHERE d.id < %(mature)s AND NOT known AND d.decision = 'decline' AND i.id IS NOT NULL)
            AS rejected_with_inputs,
        count(*) FILTER (WHERE d.id < %(mature)s AND NOT known AND d.decision = 'approve') AS undecided
    FROM decisions d
    LEFT JOIN decision_inputs i ON i.id = d.id AND i.id >= %(low)s AND i.id < %(high)s
    LEFT JOIN current_outcomes o ON o.decision_id = d.id AND o.decision_id >= %(low)s AND o.decision_id < %(high)s
    CROSS JOIN LATERAL (SELECT coalesce(o.outcome IN ('repaid', 'defaulted'), false) AS known) k
    WHERE d.id >= %(low)s AND d.id < %(high)s AND d.role <> 'shadow'
"""


class TrainingQuery(BaseModel):
    """Which decisions the table is made of, and how its target is written."""

    since: datetime | None = None
    until: datetime | None = None
    matured_months: int
    as_of: datetime = Field(description="The time at which loans are old enough or not")
    target: str = "outcome"
    repaid: str = "repaid"
    defaulted: str = "defaulted"
    include_rejected: bool = False

    @property
    def labels(self) -> dict[str | None, str | None]:
        """The target's value by outcome."""
        return {"repaid": self.repaid, "defaulted": self.defaulted, None: None}


class TrainingSummary(BaseModel):
    """What is in a training table, and what is not."""

    query: TrainingQuery
    digest: str = Field(description="SHA-256 of the rows' decision ids, hashes of inputs, and outcomes, in hex")
    rows: int
    repaid: int
    defaulted: int
    rejected: int = Field(description="Matured decisions to decline without an outcome")
    rejected_rows: int = Field(description="How many of those are in the table, without an outcome; 0 unless asked for")
    undecided: int = Field(description="Matured decisions to approve whose outcome is open or was not reported")
    too_young: int = Field(description="Decisions that have not matured")
    forgotten: int = Field(description="Matured decisions with an outcome whose inputs were deleted on request")
    columns: list[str]


@dataclass(frozen=True)
class Column:
    """A column of the table; `numeric` if it holds numbers, else text."""

    name: str
    numeric: bool


@dataclass(frozen=True)
class Row:
    """A row of the table, its inputs by feature as records keep them."""

    decision_id: UUID
    outcome: str | None
    probability: float
    inputs: dict[str, Any]

    @property
    def decided_at(self) -> datetime:
        """When it was scored."""
        return time_of(self.decision_id)


class _Feature(msgspec.Struct, frozen=True):
    name: str
    kind: str


class _Contract(msgspec.Struct, frozen=True):
    features: list[_Feature]


@dataclass(frozen=True)
class TrainingTable:
    """A table whose rows are read as they are needed.

    Its connection is in a transaction that sees the database at one time, so rows and summary belong together.
    """

    connection: AsyncConnection[Any]
    query: TrainingQuery
    features: tuple[Column, ...]
    summary: TrainingSummary

    async def batches(self) -> AsyncIterator[list[Row]]:
        """Yield the rows in the order of their decisions."""
        async with self.connection.cursor(name="training_rows") as cursor:
            rows = f"SELECT d.id, o.outcome, d.probability, i.inputs {_rows(self.query)} ORDER BY d.id"
            await cursor.execute(rows.encode(), _range(self.query))
            while found := await cursor.fetchmany(_BATCH_ROWS):
                yield [Row(*row) for row in found]


async def open_table(connection: AsyncConnection[Any], query: TrainingQuery) -> TrainingTable:
    """Count and digest the rows of a table.

    Raises:
        UsageError: The name of the target is that of another column.
    """
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    # A slow client may take minutes for what was read at once.
    await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 600000")
    features = await _features(connection, query)
    scored = [PROBABILITY] if query.include_rejected else []
    columns = [_ID, _TIME, *scored, *(feature.name for feature in features), query.target]
    if taken := sorted({name for name in columns if columns.count(name) > 1}):
        raise UsageError(
            f"the table would have two columns named {', '.join(taken)}; choose another name for the target"
        )
    counts = await _counts(connection, query)
    with_inputs = counts.pop("rejected_with_inputs")
    counts["rejected_rows"] = with_inputs if query.include_rejected else 0
    rows = counts["repaid"] + counts["defaulted"] + counts["rejected_rows"]
    summary = TrainingSummary(
        query=query, digest=await _digest(connection, query), rows=rows, columns=columns, **counts
    )
    return TrainingTable(connection, query, features, summary)


async def _features(connection: AsyncConnection[Any], query: TrainingQuery) -> tuple[Column, ...]:
    """Return the features of all versions that scored the rows, those of the version used last first."""
    cursor = await connection.execute(
        f"""
        SELECT v.contract FROM model_versions v
        JOIN (SELECT d.model_version AS id, max(d.id::text) AS last {_rows(query)} GROUP BY d.model_version) used
            USING (id)
        ORDER BY used.last DESC
        """.encode(),  # noqa: S608 - nothing of a request
        _range(query),
    )
    numeric: dict[str, bool] = {}
    for (contract,) in await cursor.fetchall():
        for feature in msgspec.json.decode(contract, type=_Contract).features:
            # A feature that was a number for one version and a category for another is text.
            numeric[feature.name] = numeric.get(feature.name, True) and feature.kind == "numeric"
    return tuple(Column(name, is_numeric) for name, is_numeric in numeric.items())


async def _counts(connection: AsyncConnection[Any], query: TrainingQuery) -> dict[str, int]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_COUNTS.encode(), _range(query))
    return await cursor.fetchone() or {}


async def _digest(connection: AsyncConnection[Any], query: TrainingQuery) -> str:
    digest = sha256()
    async with connection.cursor(name="training_digest") as cursor:
        rows = f"SELECT d.id, d.inputs_hash, o.outcome {_rows(query)} ORDER BY d.id"
        await cursor.execute(rows.encode(), _range(query))
        while found := await cursor.fetchmany(_BATCH_ROWS):
            for decision_id, inputs_hash, outcome in found:
                digest.update(decision_id.bytes + inputs_hash + _OUTCOME_BYTE[outcome])
    return digest.hexdigest()


def _rows(query: TrainingQuery) -> str:
    return _ROWS_AND_REJECTED if query.include_rejected else _ROWS


def _range(query: TrainingQuery) -> dict[str, UUID]:
    low = FIRST_ID if query.since is None else first_id(query.since)
    high = LAST_ID if query.until is None else first_id(query.until)
    return {"low": low, "high": high, "mature": min(high, first_id(months_before(query.as_of, query.matured_months)))}


def months_before(at: datetime, months: int) -> datetime:
    """Return the time so many months before; the last day of the month where that has no such day."""
    year, month = divmod(at.year * 12 + at.month - 1 - months, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))
