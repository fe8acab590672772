"""`python -m decisions drift`: what changed in the applications, the scores and the outcomes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import psycopg

from decisions.archive.command import archive_bucket
from decisions.archive.registry import Registry
from decisions.drift.document import DriftReport
from decisions.drift.measure import Dates, measure
from decisions.drift.options import Options, parse
from decisions.drift.page import page
from decisions.drift.publishing import publish
from decisions.drift.sources import Files, Store
from decisions.drift.subjects import subject_of_files, subject_of_log
from decisions.errors import DecisionsError, DifferenceError, NothingError
from decisions.settings import DriftSettings

logger = logging.getLogger(__name__)
_DRIFTED = DifferenceError.exit_code


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 3 if something drifted."""
    options = parse(arguments)
    now = datetime.now(UTC)
    try:
        report = _of_files(options, now) if options.decisions else _of_log(options, now)
    except NothingError as error:
        if not options.exit_zero:
            raise
        logger.info("no report: %s", error)
        return 0
    if options.output:
        try:
            options.output.write_text(page(report), "utf-8")
        except OSError as error:
            raise DecisionsError(f"--output: cannot write {error}") from error
    sys.stdout.write(report.model_dump_json(indent=2) + "\n" if options.json else as_text(report))
    return _DRIFTED if report.verdict == "drifted" and not options.exit_zero else 0


def as_text(report: DriftReport) -> str:
    """Return what people read in a log."""
    lines = [f"model {report.model}, version {report.version}: {report.verdict}", report.headline]
    for finding in report.findings:
        since = f" since {finding.since}" if finding.since else ""
        lines += [f"- {finding.subject}{since}: {finding.what}; {finding.how_bad}", f"  {finding.what_to_do}"]
    return "\n".join(lines) + "\n"


def _of_files(options: Options, now: datetime) -> DriftReport:
    source = Files(options.decisions, options.outcomes)
    assert options.contract  # noqa: S101 - `parse` has checked that
    subject, dates = subject_of_files(source, options, options.contract)
    return measure(source, subject, dates, options, now)


def _of_log(options: Options, now: datetime) -> DriftReport:
    settings = DriftSettings()
    dates = Dates.of(options, now.date())
    try:
        with closing(psycopg.connect(settings.conninfo(), autocommit=True)) as connection:
            registry = Registry(settings.mlflow_url) if settings.mlflow_url else None
            subject = subject_of_log(connection, registry, options, (dates.window.since, dates.window.until))
            source = Store(connection, archive_bucket(settings), list(subject.numbers))
            report = measure(source, subject, dates, options, now)
            if options.publish:
                publish(connection, settings, report)
    except psycopg.Error as error:
        raise DecisionsError(f"drift: {' '.join(str(error).split())}") from error
    return report
