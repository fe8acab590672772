"""`python -m decisions load-outcomes s3://BUCKET/KEY`: loads a file of outcomes, however long it is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import boto3
import msgspec
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from decisions.errors import DecisionsError, UsageError
from decisions.outcomes.formats import BY_SUFFIX, PARQUET, read_rows
from decisions.outcomes.parquet import read_parquet
from decisions.outcomes.rows import RawRow
from decisions.outcomes.store import LoadResult, OutcomeLoad, batches_of
from decisions.settings import LoadOutcomesSettings

logger = logging.getLogger(__name__)
_ROWS_BETWEEN_REPORTS = 100_000
_REJECTED_IN_LOG = 20


def main(arguments: Sequence[str]) -> int:
    """Load a file and return the exit code: 0 also if rows were rejected, which the report lists."""
    parser = argparse.ArgumentParser(prog="python -m decisions load-outcomes", description=__doc__)
    parser.add_argument("source", help="s3://BUCKET/KEY or a file: .csv, .json, .ndjson, .jsonl or .parquet")
    parser.add_argument("--json", action="store_true", help="write the report as JSON")
    parsed = parser.parse_args(arguments)
    settings = LoadOutcomesSettings()
    media_type = BY_SUFFIX.get(PurePosixPath(parsed.source).suffix.lower())
    if media_type is None:
        raise UsageError(f"{parsed.source}: the name must end in {', '.join(BY_SUFFIX)}")
    with tempfile.TemporaryDirectory() as folder:
        path = _local_copy(parsed.source, Path(folder), settings)
        result = asyncio.run(_load(path, media_type, parsed.source, settings))
    sys.stdout.write(_report(result, as_json=parsed.json))
    return 0


def _local_copy(source: str, folder: Path, settings: LoadOutcomesSettings) -> Path:
    if not source.startswith("s3://"):
        return Path(source)
    location = urlsplit(source)
    bucket, key = location.netloc, location.path.lstrip("/")
    if not bucket or not key:
        raise UsageError(f"{source}: allowed: s3://BUCKET/KEY")
    options = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint_url, config=options)
    path = folder / "outcomes"
    try:
        client.download_file(bucket, key, str(path))
    except (BotoCoreError, ClientError, OSError) as error:
        raise DecisionsError(f"cannot read {source}: {error}") from error
    logger.info("%s has %.1f MB", source, path.stat().st_size / 1e6)
    return path


async def _load(path: Path, media_type: str, source: str, settings: LoadOutcomesSettings) -> LoadResult:
    total, reported = 0, 0
    with _rows(path, media_type) as rows:
        async with _connected(settings) as connection:
            load = OutcomeLoad(connection, source)
            for batch in batches_of(rows):
                await load.add(batch)
                total += len(batch)
                if total - reported >= _ROWS_BETWEEN_REPORTS:
                    reported = total
                    logger.info("%d rows: %d added, %d rejected", total, load.result.added, load.result.rejected)
    return load.result


@contextmanager
def _rows(path: Path, media_type: str) -> Iterator[Iterator[RawRow]]:
    if media_type == PARQUET:
        yield read_parquet(path)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read the file: {error}") from error
    with file:
        yield read_rows(file, media_type)


@asynccontextmanager
async def _connected(settings: LoadOutcomesSettings) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    try:
        async with await psycopg.AsyncConnection.connect(settings.conninfo(), autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise DecisionsError(f"the database: {error}") from error


def _report(result: LoadResult, *, as_json: bool) -> str:
    if as_json:
        return msgspec.json.encode(asdict(result)).decode() + "\n"
    lines = [f"{result.added} outcomes added, {result.known} known already, {result.rejected} rows rejected"]
    lines += [f"  row {rejected.row}: {rejected.reason}" for rejected in result.rejected_rows[:_REJECTED_IN_LOG]]
    if result.rejected > _REJECTED_IN_LOG:
        lines.append(f"  and {result.rejected - _REJECTED_IN_LOG} more; --json lists the first 1,000")
    return "\n".join(lines) + "\n"
