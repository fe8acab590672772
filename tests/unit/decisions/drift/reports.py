"""Reports on generated decisions, without the command line."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from decisions.drift.document import DriftReport
from decisions.drift.measure import measure
from decisions.drift.options import parse
from decisions.drift.sources import Files
from decisions.drift.subjects import subject_of_files
from unit.decisions.drift.portfolio import Habits, Portfolio

NOW = datetime(2026, 5, 25, 3, tzinfo=UTC)


def drifted_report(folder: Path) -> DriftReport:
    """Return a report with something of everything: drift, months that have matured and others, a bad calibration."""
    habits = {date(2026, 5, 10): Habits(income=0.6, default_factor=2), date(2026, 5, 14): Habits(new_purpose=0.2)}
    Portfolio(date(2026, 5, 1), 18, 200, habits).write(folder)
    options = parse(["--decisions", str(folder), "--contract", f"{folder}/contract.json", "--reference",
                     f"{folder}/training-reference.json", "--from", "2026-05-14", "--compare-days", "10"])  # fmt: skip
    source = Files(options.decisions, folder / "outcomes.parquet")
    assert options.contract
    subject, dates = subject_of_files(source, options, options.contract)
    # A year later: everything has matured.
    return measure(source, subject, dates, options, NOW.replace(year=2027, month=7))
