"""Keeps outcomes in the database: each once, whoever reports it how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from decisions.database.id_ranges import first_id, time_of
from decisions.outcomes.rows import ApplicantDay, Outcome, RawRow, RejectedRowError, read_row

BATCH_ROWS = 5_000
REJECTED_SHOWN = 1_000


@dataclass(frozen=True)
class RejectedRow:
    """A row that was not taken, and why."""

    row: int
    reason: str


@dataclass
class LoadResult:
    """What became of the rows of a file.

    Attributes:
        added: Rows that are new.
        known: Rows that were reported before, by this file or another.
        rejected: How many were not taken.
        rejected_rows: The first of those.
    """

    added: int = 0
    known: int = 0
    rejected: int = 0
    rejected_rows: list[RejectedRow] = field(default_factory=list)

    def reject(self, row: int, reason: str) -> None:
        """Count a row as rejected."""
        self.rejected += 1
        if len(self.rejected_rows) < REJECTED_SHOWN:
            self.rejected_rows.append(RejectedRow(row, reason))


@dataclass(frozen=True)
class _Numbered:
    number: int
    outcome: Outcome


class OutcomeLoad:
    """One file on its way into the database, batch by batch; each batch is a transaction."""

    def __init__(self, connection: AsyncConnection[Any], reported_by: str) -> None:
        """Take where to keep outcomes, and who reports them."""
        self._connection, self._reported_by = connection, reported_by
        self.result = LoadResult()

    async def add(self, rows: Iterable[RawRow]) -> None:
        """Keep a batch of rows, except those that are rejected."""
        now = datetime.now(UTC)
        read = []
        for row in rows:
            try:
                read.append(_Numbered(row.number, read_row(row, now)))
            except RejectedRowError as error:
                self.result.reject(row.number, str(error))
        async with self._connection.transaction():
            found = await self._decisions(read)
            taken = self._with_decisions(read, found)
            added = await self._insert(taken)
        self.result.added += added
        self.result.known += len(taken) - added
        self.result.rejected_rows.sort(key=lambda rejected: rejected.row)

    async def _decisions(self, rows: Sequence[_Numbered]) -> dict[int, UUID | str]:
        """Return each row's decision by the row's number, or why there is none."""
        by_id = {row.number: row.outcome.loan for row in rows if isinstance(row.outcome.loan, UUID)}
        by_day = {row.number: row.outcome.loan for row in rows if isinstance(row.outcome.loan, ApplicantDay)}
        return {**await self._by_id(by_id), **await self._by_day(by_day)}

    async def _by_id(self, wanted: Mapping[int, UUID]) -> dict[int, UUID | str]:
        if not wanted:
            return {}
        cursor = await self._connection.execute(
            "SELECT id, role FROM decisions WHERE id = ANY(%s)", [list(set(wanted.values()))]
        )
        roles: dict[UUID, str] = dict(await cursor.fetchall())
        found: dict[int, UUID | str] = {}
        for number, decision_id in wanted.items():
            if decision_id not in roles:
                found[number] = f"there is no decision {decision_id}"
            elif roles[decision_id] == "shadow":
                found[number] = f"the decision {decision_id} is a shadow's: no client was answered with it"
            else:
                found[number] = decision_id
        return found

    async def _by_day(self, wanted: Mapping[int, ApplicantDay]) -> dict[int, UUID | str]:
        if not wanted:
            return {}
        starts = {number: datetime.combine(loan.day, time(), UTC) for number, loan in wanted.items()}
        cursor = await self._connection.execute(
            """
            SELECT w.number, array_agg(d.id)
            FROM unnest(%s::integer[], %s::text[], %s::uuid[], %s::uuid[]) w(number, applicant_id, low, high)
            JOIN decision_inputs i ON i.applicant_id = w.applicant_id AND i.id >= w.low AND i.id < w.high
            JOIN decisions d ON d.id = i.id AND d.role <> 'shadow'
            GROUP BY w.number
            """,
            [
                list(wanted),
                [loan.applicant_id for loan in wanted.values()],
                [first_id(start) for start in starts.values()],
                [first_id(start + timedelta(days=1)) for start in starts.values()],
            ],
        )
        ids: dict[int, list[UUID]] = dict(await cursor.fetchall())
        found: dict[int, UUID | str] = {}
        for number, loan in wanted.items():
            of_row = ids.get(number, [])
            if len(of_row) == 1:
                found[number] = of_row[0]
            elif of_row:
                found[number] = f"the applicant has {len(of_row)} decisions on {loan.day}; give the decision_id"
            else:
                found[number] = f"the applicant has no decision on {loan.day} (UTC)"
        return found

    def _with_decisions(self, rows: Sequence[_Numbered], found: Mapping[int, UUID | str]) -> list[tuple[UUID, Outcome]]:
        taken = []
        for row in rows:
            decision = found[row.number]
            if isinstance(decision, str):
                self.result.reject(row.number, decision)
                continue
            decided_at = time_of(decision)
            # By the day: a date without a time of day is its beginning.
            if row.outcome.observed_at.date() < decided_at.date():
                observed = row.outcome.observed_at.isoformat()
                self.result.reject(
                    row.number, f"observed_at {observed} is before the decision at {decided_at.isoformat()}"
                )
                continue
            taken.append((decision, row.outcome))
        return taken

    async def _insert(self, taken: Sequence[tuple[UUID, Outcome]]) -> int:
        """Insert what is not there yet and return how many that were."""
        # In the order of the key: two loads that wait for each other's rows would else be a deadlock.
        keys = sorted({(decision, outcome.observed_at, outcome.outcome) for decision, outcome in taken})
        if not keys:
            return 0
        cursor = await self._connection.execute(
            """
            INSERT INTO outcomes (decision_id, observed_at, outcome, reported_by)
            SELECT w.decision_id, w.observed_at, w.outcome, %s
            FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[]) w(decision_id, observed_at, outcome)
            ORDER BY 1, 2, 3
            ON CONFLICT DO NOTHING
            """,
            [self._reported_by, *(list(column) for column in zip(*keys, strict=True))],
        )
        return cursor.rowcount


def batches_of(rows: Iterable[RawRow]) -> Iterable[list[RawRow]]:
    """Yield the rows in batches."""
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch
