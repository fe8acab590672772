"""`python -m decisions archive`: what is done once a day."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import psycopg

from decisions.archive.artifacts import keep_artifacts
from decisions.archive.bucket import Bucket, open_bucket
from decisions.archive.forgetting import forget_in_archive
from decisions.archive.registry import Registry
from decisions.archive.retention import drop_old_months, export_sealed_days
from decisions.archive.seal_table import enter_seals
from decisions.archive.seals import heads_of, load_seals, seal_finished_days
from decisions.database.partitions import make_partitions, strays
from decisions.errors import DecisionsError
from decisions.settings import ArchiveSettings, StoreSettings

logger = logging.getLogger(__name__)
# Two that run at once: the second one has nothing to do.
_LOCK = 0x6172636869766500


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    argparse.ArgumentParser(
        prog="python -m decisions archive",
        description="Makes partitions ahead, keeps the models' files, seals and exports finished days, and drops "
        "months that are archived.",
    ).parse_args(arguments)
    settings = ArchiveSettings()
    try:
        with closing(psycopg.connect(settings.conninfo(), autocommit=True)) as connection:
            registry = Registry(settings.mlflow_url) if settings.mlflow_url else None
            archive(connection, archive_bucket(settings), seal_bucket(settings), settings.retention_months,
                    datetime.now(UTC), registry)  # fmt: skip
    except psycopg.Error as error:
        raise DecisionsError(f"archive: {' '.join(str(error).split())}") from error
    return 0


def archive(
    connection: psycopg.Connection,
    bucket: Bucket,
    seal_store: Bucket,
    months_kept: int,
    now: datetime,
    registry: Registry | None = None,
) -> None:
    """Do what is due; whatever was interrupted is done by the next run.

    Raises:
        DecisionsError: Something could not be done; what comes before it was.
    """
    if connection.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone() == (False,):
        raise DecisionsError("another archive is running")
    try:
        for name in make_partitions(connection, now):
            logger.info("made %s", name)
        found = strays(connection)
        if found.count:
            logger.warning(
                "%d decisions are outside of every month's partition, from %s to %s: clocks were off, or their months "
                "are gone; they stay in the database", found.count, found.first, found.last,
            )  # fmt: skip
        # Before what may fail day after day: a version that is deleted from the registry meanwhile is lost for good.
        kept = keep_artifacts(connection, bucket, registry)
        forgotten = forget_in_archive(connection, bucket)
        sealed = sum(1 for _ in seal_finished_days(connection, seal_store, now))
        seals = load_seals(seal_store)
        enter_seals(connection, seals)
        exported = sum(1 for _ in export_sealed_days(connection, bucket, seals))
        dropped = 0
        for month in drop_old_months(connection, bucket, heads_of(seals), months_kept, now):
            logger.info("dropped %s, which is in the archive", month)
            dropped += 1
        logger.info(
            "done: %d days sealed, %d exported, %d months dropped, inputs of %d decisions forgotten, %d files of "
            "models kept%s", sealed, exported, dropped, forgotten, kept.files,
            f"; not kept: {', '.join(kept.missing)}" if kept.missing else "",
        )  # fmt: skip
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def archive_bucket(settings: StoreSettings) -> Bucket:
    """Return where the archive is."""
    return open_bucket(settings.s3_bucket, settings.s3_prefix, settings.s3_endpoint_url)


def seal_bucket(settings: StoreSettings) -> Bucket:
    """Return where the seals are."""
    return open_bucket(settings.seal_bucket or settings.s3_bucket, settings.s3_prefix, settings.s3_endpoint_url)
