"""A range of time as one Parquet file: from the database, and from the archive where its months have been dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import psycopg
import pyarrow as pa
from psycopg import errors

from decisions.archive.bucket import Bucket
from decisions.archive.files import CHUNK_ROWS, DECISION, INPUT, chunks, decision_table, read_day, writer_of
from decisions.archive.rows import StoredDecision, decisions_of_day
from decisions.database.id_ranges import time_of
from decisions.database.partitions import Month, months_with_partitions
from decisions.errors import DecisionsError
from decisions.records.record import DecisionInputs

# What belongs to the inputs, and is null for those that were forgotten.
_PERSONAL = [INPUT.field(name) for name in ("applicant_id", "salt", "inputs")]
Forgotten = Callable[[str | None], bool]


@dataclass(frozen=True)
class Range:
    """A range of time: its beginning, and its end, which is not part of it; both have a time zone."""

    since: datetime
    until: datetime

    def __contains__(self, decision: StoredDecision) -> bool:
        """Return whether a decision was made in it."""
        return self.since <= time_of(UUID(decision.record.id)) < self.until

    def days(self) -> Iterator[date]:
        """Yield the days, in UTC, that it touches."""
        day, last = self.since.astimezone(UTC).date(), (self.until - timedelta(microseconds=1)).astimezone(UTC).date()
        while day <= last:
            yield day
            day += timedelta(days=1)


@dataclass
class Exported:
    """What an export wrote: how many decisions, and of how many of them the inputs were forgotten."""

    decisions: int = 0
    forgotten: int = 0


def export(
    connection: psycopg.Connection,
    bucket: Bucket,
    wanted: Range,
    file: Path,
    *,
    inputs: bool,
    progress: Callable[[date, Exported], None] = lambda _day, _so_far: None,
) -> Exported:
    """Write the decisions of a range into a Parquet file, day by day, and those of a day by log and sequence.

    Args:
        connection: One that commits each statement. No transaction spans the export: the daily run could not drop a
            month meanwhile, and all shippers would wait behind it.
        bucket: The archive.
        wanted: The range.
        file: Where to write.
        inputs: Whether applicant id, salt and inputs are written, too.
        progress: Called after each day.

    Returns:
        What was written.

    Raises:
        DecisionsError: A file of the archive cannot be read, requests to forget cannot be, or a month was dropped
            meanwhile.
    """
    result = Exported()
    before = set(months_with_partitions(connection))
    schema = pa.schema([*DECISION, *(_PERSONAL if inputs else [])])
    with writer_of(file, schema) as writer:
        for day in wanted.days():
            for chunk in chunks(_of_day(connection, bucket, day, wanted, before, inputs=inputs), CHUNK_ROWS):
                writer.write_table(_with_inputs(chunk) if inputs else decision_table(chunk))
                result.decisions += len(chunk)
                result.forgotten += sum(decision.inputs is None for decision in chunk)
            progress(day, result)
    if dropped := before - set(months_with_partitions(connection)):
        raise DecisionsError(f"months were dropped meanwhile ({', '.join(map(str, sorted(dropped)))}); export again")
    return result


def _of_day(
    connection: psycopg.Connection, bucket: Bucket, day: date, wanted: Range, months: set[Month], *, inputs: bool
) -> Iterator[StoredDecision]:
    with connection.transaction():
        yield from (decision for decision in decisions_of_day(connection, day) if decision in wanted)
    if Month.of(day) not in months:
        yield from _archived(connection, bucket, day, wanted, inputs=inputs)


def _archived(
    connection: psycopg.Connection, bucket: Bucket, day: date, wanted: Range, *, inputs: bool
) -> Iterator[StoredDecision]:
    forgotten: Forgotten | None = None
    for decision in read_day(bucket, day):
        if decision not in wanted:
            continue
        if decision.inputs is None or not inputs:
            yield decision
            continue
        forgotten = forgotten or _forgotten(connection)
        yield replace(decision, inputs=None) if forgotten(decision.inputs.applicant_id) else decision


def _forgotten(connection: psycopg.Connection) -> Forgotten:
    """Return whether an applicant asked to be forgotten and the archive does not know yet."""
    try:
        requests = connection.execute(
            "SELECT salt, applicant_hash FROM forgettings WHERE archive_done_at IS NULL"
        ).fetchall()
    except errors.InsufficientPrivilege as error:
        raise DecisionsError(
            "inputs of months that are only in the archive need the role decisions_owner, which knows who was "
            "forgotten since the archive's last run; connect as that, or leave out inputs"
        ) from error

    def forgotten(applicant_id: str | None) -> bool:
        return applicant_id is not None and any(
            sha256(salt + applicant_id.encode()).digest() == wanted for salt, wanted in requests
        )

    return forgotten


def _with_inputs(chunk: list[StoredDecision]) -> pa.Table:
    table = decision_table(chunk)
    for field in _PERSONAL:
        values = [_value(decision.inputs, field.name) for decision in chunk]
        table = table.append_column(field, pa.array(values, field.type))
    return table


def _value(known: DecisionInputs | None, name: str) -> object:
    return None if known is None else getattr(known, name)
