"""One run: read the days that are needed, count, and assemble the report."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import duckdb

from decisions.drift.aggregation import CLIENT, Period, Wanted, count, database, quantile_edges
from decisions.drift.assembly import Question, assemble, default_segments
from decisions.drift.bins import Bins, FeatureBins, inner_edges
from decisions.drift.contract import DriftContract, Numeric
from decisions.drift.days import Days
from decisions.drift.document import DriftReport
from decisions.drift.options import Options
from decisions.drift.performance import Maturity
from decisions.drift.reference import TrainingReference
from decisions.drift.sources import Source
from decisions.drift.tally import Tally
from decisions.errors import DecisionsError, NothingError, UsageError

logger = logging.getLogger(__name__)
# Bins of numbers, if training left no edges.
_PARTS = 10


@dataclass(frozen=True)
class Subject:
    """The version that a report is about.

    Attributes:
        model: The registered model's name; a contract keeps the one that it was trained under.
        contract: Its contract.
        reference: How its training data were distributed; None if that is not known.
        version: How decisions name it.
        numbers: The numbers of all versions of its model, by how decisions name them.
        trained_at: When it was trained, if that is known; it has a time zone.
    """

    model: str
    contract: DriftContract
    reference: TrainingReference | None
    version: str
    numbers: Mapping[str, str]
    trained_at: datetime | None = None


@dataclass(frozen=True)
class Dates:
    """The days of a report: those that are judged, those before, and those whose loans' outcomes count."""

    window: Days
    earlier: Days
    loans: Days

    @classmethod
    def of(cls, options: Options, today: date) -> Dates:
        """Return the days that options ask for, as of a day that is not over."""
        until = options.until or today
        since = options.since or until - timedelta(days=options.days)
        oldest = Maturity.of(until, options.loan_months).until
        return cls(Days(since, until), Days(since - timedelta(days=options.compare_days), since), Days(oldest, until))

    @property
    def needed(self) -> list[date]:
        """All days that are read, in their order."""
        first = min(self.earlier.since, self.loans.since)
        return [first + timedelta(days=n) for n in range((self.window.until - first).days)]

    @property
    def counted(self) -> Days:
        """Those whose features, scores and reasons are counted."""
        return Days(self.earlier.since, self.window.until)


def measure(source: Source, subject: Subject, dates: Dates, options: Options, now: datetime) -> DriftReport:
    """Return the report.

    Raises:
        UsageError: A segment is none of the contract's.
        NothingError: There are no decisions.
        DecisionsError: Decisions cannot be read.
    """
    segments = _segments(options.segments, subject.contract)
    with tempfile.TemporaryDirectory() as folder:
        connection = database(folder, memory_mebibytes=options.memory_mebibytes)
        try:
            bins = _bins(source, connection, subject, dates)
            counted = _period(dates.counted)
            wanted = Wanted(bins, segments, [counted], _period(dates.loans), subject.trained_at)
            with_inputs = [day for day in dates.needed if day in dates.counted]
            for day in source.parts(connection, dates.needed, with_inputs):
                count(connection, wanted)
                if day:
                    logger.debug("counted %s", day)
            tally = Tally(connection)
            if not tally.decisions(dates.window):
                raise NothingError(f"there are no decisions from {dates.window.since} to {dates.window.until}")
            return assemble(tally, Question(
                subject.model, bins, subject.reference, dates.window, dates.earlier, subject.version,
                subject.numbers, segments, options.psi_limit, options.share_limit, options.confidence,
                options.matured_months, now, subject.trained_at,
            ))  # fmt: skip
        except duckdb.Error as error:
            raise DecisionsError(f"the decisions cannot be counted: {error}") from error
        finally:
            connection.close()


def _segments(names: Sequence[str], contract: DriftContract) -> list[str]:
    allowed = [*(feature.name for feature in contract.features), CLIENT]
    if unknown := sorted(set(names) - set(allowed)):
        raise UsageError(f"--segment {', '.join(unknown)}: allowed: {', '.join(allowed)}")
    return list(dict.fromkeys(names)) or default_segments(contract)


def _bins(source: Source, connection: duckdb.DuckDBPyConnection, subject: Subject, dates: Dates) -> Bins:
    """Return the training reference's bins; without one, the tenths of the first day before that has decisions."""
    contract = subject.contract
    if subject.reference:
        return Bins.of_training(contract, subject.reference)
    edges: dict[str, tuple[float, ...]] = {}
    days = [day for day in dates.needed if day in dates.counted]
    for _ in source.parts(connection, days, days):
        for feature in contract.features:
            if isinstance(feature, Numeric):
                edges[feature.name] = inner_edges(quantile_edges(connection, feature, _period(dates.counted), _PARTS))
        if any(edges.values()):
            break
    return Bins(contract, tuple(FeatureBins(feature, edges.get(feature.name, ())) for feature in contract.features))


def _period(days: Days) -> Period:
    return Period(*(datetime.combine(day, time(), UTC) for day in (days.since, days.until)))
