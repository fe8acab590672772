"""`python -m decisions export`: a range of time as one Parquet file, on disk or in S3."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psycopg

from decisions.archive.bucket import open_bucket
from decisions.archive.command import archive_bucket
from decisions.archive.export import Exported, Range, export
from decisions.archive.files import digest_of
from decisions.errors import DecisionsError, UsageError
from decisions.settings import StoreSettings
from decisions.times import ALLOWED, utc_time

logger = logging.getLogger(__name__)
_SUFFIX = ".parquet"
_REPORT_DECISIONS = 100_000


@dataclass(frozen=True)
class Report:
    """What was exported: the range (`to` is not part of it), the file, and what is in it."""

    since: datetime
    until: datetime
    output: str
    sha256: str
    decisions: int
    forgotten: int


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions export",
        description="Writes the decisions of a range into one Parquet file; of months that were dropped, those of the "
        "archive.",
    )
    parser.add_argument("--from", dest="since", required=True, metavar="TIME", help=f"the beginning: {ALLOWED}")
    parser.add_argument("--to", dest="until", metavar="TIME", help="the end, which is not part of it; now if not given")
    parser.add_argument("--output", required=True, help=f"a file or s3://BUCKET/KEY, whose name ends in {_SUFFIX}")
    parser.add_argument("--without-inputs", action="store_true",
                        help="leave out applicant id, salt and inputs")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    wanted = _range(options.since, options.until)
    settings = StoreSettings()
    with _target(options.output, settings) as file, _connected(settings) as connection:
        found = export(connection, archive_bucket(settings), wanted, file, inputs=not options.without_inputs,
                       progress=_progress())  # fmt: skip
        report = Report(wanted.since, wanted.until, options.output, digest_of(file), found.decisions, found.forgotten)
    sys.stdout.write(f"{msgspec.json.encode(report).decode() if options.json else _as_text(report)}\n")
    return 0


def _range(since: str, until: str | None) -> Range:
    wanted = Range(_time("--from", since), _time("--to", until) if until else datetime.now(UTC))
    if wanted.since >= wanted.until:
        raise UsageError(f"--from {wanted.since.isoformat()} is not before --to {wanted.until.isoformat()}")
    return wanted


def _time(option: str, text: str) -> datetime:
    try:
        return utc_time(text)
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}; allowed: {error}") from error


@contextmanager
def _target(output: str, settings: StoreSettings) -> Iterator[Path]:
    """Yield a file to write; at the end of the block it becomes the output, which so is never half there."""
    if not output.endswith(_SUFFIX):
        raise UsageError(f"--output {output}: the name must end in {_SUFFIX}")
    if not output.startswith("s3://"):
        partial = Path(f"{output}.partial")
        try:
            yield partial
            partial.replace(output)
        except OSError as error:
            raise DecisionsError(f"cannot write {output}: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
        return
    location = urlsplit(output)
    name, key = location.netloc, location.path.lstrip("/")
    if not name or not key:
        raise UsageError(f"--output {output}: allowed: s3://BUCKET/KEY")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "export"
        yield file
        open_bucket(name, "", settings.s3_endpoint_url).put(key, file, {"sha256": digest_of(file)})


@contextmanager
def _connected(settings: StoreSettings) -> Iterator[psycopg.Connection]:
    try:
        with closing(psycopg.connect(settings.conninfo(), autocommit=True)) as connection:
            yield connection
    except psycopg.Error as error:
        raise DecisionsError(f"export: {' '.join(str(error).split())}") from error


def _progress() -> Callable[[date, Exported], None]:
    """Return what logs how far the export is, now and then."""
    reported = 0

    def log(day: date, so_far: Exported) -> None:
        nonlocal reported
        if so_far.decisions - reported >= _REPORT_DECISIONS:
            reported = so_far.decisions
            logger.info("%d decisions until %s", so_far.decisions, day)

    return log


def _as_text(report: Report) -> str:
    return (
        f"{report.decisions} decisions from {report.since.isoformat()} to {report.until.isoformat()} are in "
        f"{report.output}; the inputs of {report.forgotten} were forgotten\nsha256 of the file: {report.sha256}"
    )
