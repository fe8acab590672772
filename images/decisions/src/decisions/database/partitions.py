"""Partitions by month: made ahead, and dropped when they are archived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import sql

from decisions.database.id_ranges import first_id

TABLES = ("decisions", "decision_inputs")
MONTHS_AHEAD = 3
_NAMES = """
SELECT substr(c.relname, length('decisions_') + 1) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'decisions'::regclass AND c.relname ~ '^decisions_[0-9]{4}_[0-9]{2}$' ORDER BY 1
"""


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, day: date) -> Month:
        """Return the month that a day or time is in."""
        return cls(day.year, day.month)

    def plus(self, months: int) -> Month:
        """Return a later month, or an earlier one for a negative number."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(year, month + 1)

    @property
    def start(self) -> datetime:
        """When it begins."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """The lowest id of its decisions, and that of the next month."""
        return first_id(self.start), first_id(self.plus(1).start)

    def days(self) -> Iterator[date]:
        """Yield its days."""
        day, end = self.start.date(), self.plus(1).start.date()
        while day < end:
            yield day
            day += timedelta(days=1)

    def __str__(self) -> str:
        return f"{self.year:04}_{self.month:02}"


@dataclass(frozen=True)
class Strays:
    """Decisions in the default partition, outside of every month's: how many, and the lowest and highest id."""

    count: int
    first: UUID | None
    last: UUID | None


def months_with_partitions(connection: psycopg.Connection) -> list[Month]:
    """Return the months that have partitions, the oldest first."""
    rows = connection.execute(_NAMES).fetchall()
    return [Month(int(name[:4]), int(name[5:])) for (name,) in rows]


def make_partitions(connection: psycopg.Connection, now: datetime) -> list[str]:
    """Make the partitions that are missing from last month until `MONTHS_AHEAD` ahead; return the new tables' names.

    Decisions of such a month that lie in the default partition move along.
    """
    made = []
    for table in TABLES:
        for offset in range(-1, MONTHS_AHEAD + 1):
            month = Month.of(now).plus(offset)
            if connection.execute("SELECT to_regclass(%s)", [f"{table}_{month}"]).fetchone() == (None,):
                _make_partition(connection, table, month)
                made.append(f"{table}_{month}")
    return made


def drop_partitions(connection: psycopg.Connection, month: Month) -> None:
    """Drop a month with its decisions and inputs, both or neither."""
    with connection.transaction():
        for table in TABLES:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(f"{table}_{month}")))


def strays(connection: psycopg.Connection) -> Strays:
    """Return what lies outside of every month."""
    ids = connection.execute(
        "SELECT count(*), (array_agg(id ORDER BY id))[1], (array_agg(id ORDER BY id DESC))[1] FROM decisions_default"
    ).fetchone()
    assert ids is not None  # noqa: S101 - an aggregate has one row
    return Strays(*ids)


def _make_partition(connection: psycopg.Connection, table: str, month: Month) -> None:
    # Attached, not created as a partition: that would fail if the default partition had decisions of the month, and
    # would lock out the writers of all others.
    first, end = month.ids
    names = {
        "new": sql.Identifier(f"{table}_{month}"), "parent": sql.Identifier(table),
        "default": sql.Identifier(f"{table}_default"), "first": sql.Literal(str(first)), "end": sql.Literal(str(end)),
    }  # fmt: skip
    with connection.transaction():
        for statement in (
            "LOCK TABLE {default} IN SHARE ROW EXCLUSIVE MODE",
            "CREATE TABLE {new} (LIKE {parent} INCLUDING ALL)",
            "WITH moved AS (DELETE FROM {default} WHERE id >= {first} AND id < {end} RETURNING *) "
            "INSERT INTO {new} SELECT * FROM moved",
            "ALTER TABLE {parent} ATTACH PARTITION {new} FOR VALUES FROM ({first}) TO ({end})",
        ):
            connection.execute(sql.SQL(statement).format(**names))
