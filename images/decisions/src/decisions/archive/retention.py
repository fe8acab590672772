"""Export of sealed days, and dropping of months that the archive has."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime

import psycopg
from psycopg import sql

from decisions.archive.bucket import Bucket
from decisions.archive.files import archived_rows, read_day, write_day
from decisions.archive.rows import decisions_of_day
from decisions.archive.seals import SealedLog, StoredSeal
from decisions.database.partitions import Month, drop_partitions, months_with_partitions
from decisions.errors import DecisionsError

logger = logging.getLogger(__name__)


def export_sealed_days(connection: psycopg.Connection, bucket: Bucket, seals: list[StoredSeal]) -> Iterator[date]:
    """Export each day of which seals cover more than the archive has, and yield it.

    Days without a partition are left out: those of months that were dropped, and those of clocks that were far off.
    """
    sealed = Counter[str]()
    for stored in seals:
        sealed.update(stored.seal.days)
    months = set(months_with_partitions(connection))
    for text, rows in sorted(sealed.items()):
        day = date.fromisoformat(text)
        if Month.of(day) in months and archived_rows(bucket, day) < rows:
            _export(connection, bucket, day)
            yield day


def drop_old_months(
    connection: psycopg.Connection, bucket: Bucket, heads: Mapping[str, SealedLog], months_kept: int, now: datetime
) -> Iterator[Month]:
    """Drop the months that ended `months_kept` months ago, and yield them.

    Each is compared with the archive first, row by row.

    Raises:
        DecisionsError: The archive lacks something of a month or has something else, or a seal is missing.
    """
    for month in months_with_partitions(connection):
        if month.plus(1 + months_kept).start <= now:
            with connection.transaction():
                # No decision arrives between comparison and drop. Inputs may be forgotten meanwhile.
                connection.execute(
                    sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(f"decisions_{month}"))
                )
                for day in month.days():
                    _check_sealed(connection, day, heads)
                    _check_archived(connection, bucket, day)
                drop_partitions(connection, month)
            yield month


def _export(connection: psycopg.Connection, bucket: Bucket, day: date) -> None:
    with connection.transaction():
        rows = write_day(bucket, day, decisions_of_day(connection, day))
    logger.info("exported %d decisions of %s", rows, day)


def _check_sealed(connection: psycopg.Connection, day: date, heads: Mapping[str, SealedLog]) -> None:
    for decision in decisions_of_day(connection, day):
        head = heads.get(decision.record.log_id)
        if head is None or head.last < decision.record.sequence:
            raise DecisionsError(f"the month of {day} is not dropped: no seal covers its decision {decision.record.id}")


def _check_archived(connection: psycopg.Connection, bucket: Bucket, day: date) -> None:
    """Compare a day with its archive, and export it again if they differ."""
    if _is_archived(connection, bucket, day):
        return
    _export(connection, bucket, day)
    if not _is_archived(connection, bucket, day):
        raise DecisionsError(f"the month of {day} is not dropped: the archive of that day is not what the database has")


def _is_archived(connection: psycopg.Connection, bucket: Bucket, day: date) -> bool:
    pairs = itertools.zip_longest(decisions_of_day(connection, day), read_day(bucket, day))
    try:
        return all(stored == archived for stored, archived in pairs)
    except DecisionsError as error:
        logger.warning("the archive of %s is damaged: %s", day, error)
        return False
