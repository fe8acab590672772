"""From counts to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import pairwise

import numpy as np

from decisions.drift import performance
from decisions.drift.aggregation import CLIENT
from decisions.drift.bins import Bins
from decisions.drift.contract import DriftContract
from decisions.drift.days import Days
from decisions.drift.document import (
    Characteristic,
    DriftReport,
    Limits,
    Reason,
    Segment,
    VersionShare,
)
from decisions.drift.findings import find, headline
from decisions.drift.judgment import (
    Judge,
    compared_groups,
    judge_distribution,
    judge_feature,
    judge_segment,
    tests_of,
    worst,
)
from decisions.drift.reference import TrainingReference
from decisions.drift.tally import GroupCounts, Tally, total

SCORE, REASONS = "score", "reasons"


@dataclass(frozen=True)
class Question:
    """What a report is about.

    Attributes:
        model: The registered model's name.
        bins: In which everything was counted.
        reference: Of training; None to compare features with the earlier days.
        window: The days that are judged.
        earlier: Those with which reasons and segments are compared.
        version: How decisions name the version that the report is about.
        numbers: The versions' numbers in the registry, by how decisions name them.
        segments: Names of features, or `client`.
        psi: The limit of PSI.
        share: By how much shares of missing or unknown values may rise.
        confidence: With which all verdicts hold together.
        matured_months: How old loans must be for their outcomes to count.
        now: When the report is made; it has a time zone.
        trained_at: When the version was trained, if that is known; it has a time zone.
    """

    model: str
    bins: Bins
    reference: TrainingReference | None
    window: Days
    earlier: Days
    version: str
    numbers: Mapping[str, str]
    segments: Sequence[str]
    psi: float
    share: float
    confidence: float
    matured_months: int
    now: datetime
    trained_at: datetime | None = None

    @property
    def counted(self) -> Days:
        """Both periods."""
        return Days(self.earlier.since, self.window.until)

    @property
    def contract(self) -> DriftContract:
        """Of the version."""
        return self.bins.contract


@dataclass(frozen=True)
class _Drift:
    """What of the report is about drift."""

    features: list[Characteristic]
    score: Characteristic | None
    reasons: Characteristic | None
    segments: list[Segment]
    tests: int


def assemble(tally: Tally, question: Question) -> DriftReport:
    """Return the report on what was counted."""
    drift = _drift(tally, question)
    maturity = performance.Maturity.of(question.now.date(), question.matured_months)
    versions = performance.of_versions(tally, question.window, maturity, question.numbers)
    months = performance.by_month(tally, maturity, question.now.date())
    named = _named_reasons(tally, question)
    judged = [*drift.features, *filter(None, (drift.score, drift.reasons))]
    verdict = worst([*(of.verdict for of in judged),
                     *(group.verdict for segment in drift.segments for group in segment.groups)])  # fmt: skip
    decided = tally.decisions(question.window)
    limits = Limits(psi=question.psi, share=question.share, confidence=question.confidence, tests=drift.tests)
    return DriftReport(
        model=question.model,
        version=question.numbers.get(question.version, question.version),
        since=_midnight(question.window.since),
        until=_midnight(question.window.until),
        created_at=question.now,
        verdict=verdict,
        drifted=_drifted(judged, drift.segments),
        headline=headline(verdict, sum(decided.values()), question.window, judged, drift.segments),
        findings=find(limits, judged, drift.segments, versions, months),
        decisions=sum(decided.values()),
        forgotten=tally.forgotten(question.window),
        versions=[VersionShare(version=question.numbers.get(version, version), decisions=count)
                  for version, count in decided.items()],
        limits=limits,
        feature_reference="training" if question.reference else "decisions",
        compared_since=_midnight(question.earlier.since) if tally.decisions(question.earlier) else None,
        score=drift.score, features=drift.features, reasons=drift.reasons, named_reasons=named, segments=drift.segments,
        performance=versions, months=months, matured_months=question.matured_months,
        default_rate=question.contract.default_rate, new_outcomes=_new_outcomes(tally, question, maturity),
    )  # fmt: skip


def _new_outcomes(tally: Tally, question: Question, maturity: performance.Maturity) -> int | None:
    if question.trained_at is None:
        return None
    learned = performance.Maturity.of(question.trained_at.date(), question.matured_months)
    return tally.new_outcomes(maturity.until, learned.until)


def _drift(tally: Tally, question: Question) -> _Drift:
    contract = question.contract
    scores = len(contract.score_histogram.counts)
    groups = {name: _groups(tally, question, name, scores) for name in question.segments}
    tests = tests_of(question.bins.features, 2, sum(compared_groups(*both) for both in groups.values()))
    judge = Judge.of(question.psi, question.share, question.confidence, tests)
    edges = contract.score_histogram.edges
    return _Drift(
        features=_features(tally, question, judge),
        score=judge_distribution(
            judge, SCORE, f"Probability of default, as version {question.numbers.get(question.version, '')} answers it",
            [f"{low:.3g} - {high:.3g}" for low, high in pairwise(edges)],
            tally.score(question.version, question.counted, scores), question.window,
            np.array(contract.score_histogram.counts),
        ),
        reasons=_reasons(tally, question, judge),
        segments=[judge_segment(judge, name, question.bins.of_feature(name), *both) for name, both in groups.items()],
        tests=tests,
    )  # fmt: skip


def _features(tally: Tally, question: Question, judge: Judge) -> list[Characteristic]:
    found = []
    for bins in question.bins.features:
        by_day = tally.feature(bins.feature.name, question.counted, bins.count)
        reference = bins.of_reference(question.reference.features[bins.feature.name]) if question.reference \
            else total(by_day, question.earlier, bins.count)  # fmt: skip
        judged = judge_feature(judge, bins, by_day, question.window, reference)
        if judged:
            found.append(judged)
    return found


def _groups(
    tally: Tally, question: Question, name: str, scores: int
) -> tuple[dict[int | str, GroupCounts], dict[int | str, GroupCounts]]:
    """Return a segment's groups now and before. Scores are those of one version: others have another scale."""
    now, then = (tally.groups(name, question.version, days, scores) for days in (question.window, question.earlier))
    return now, then


def _reasons(tally: Tally, question: Question, judge: Judge) -> Characteristic | None:
    """Judge which reason is named first: one for each decision, so that they are independent."""
    by_day = {
        day: tally.reasons(question.version, Days(day, date.fromordinal(day.toordinal() + 1)), "first_reason")
        for day in _each_day(question.counted)
    }
    codes = sorted({code for of in by_day.values() for code in of})
    counts = {day: np.array([of.get(code, 0.0) for code in codes]) for day, of in by_day.items() if of}
    reference = total(counts, question.earlier, len(codes))
    texts = question.contract.reason_texts()
    labels = [f"{code} {texts.get(code, '')}".strip() or "(none)" for code in codes]
    return judge_distribution(judge, REASONS, "The reason that is named first", labels, counts, question.window,
                              reference)  # fmt: skip


def _named_reasons(tally: Tally, question: Question) -> list[Reason]:
    now, then = (
        (tally.reasons(question.version, days, "reason"),
         sum(tally.reasons(question.version, days, "first_reason").values()))
        for days in (question.window, question.earlier)
    )  # fmt: skip
    if not now[1]:
        return []
    texts = question.contract.reason_texts()
    return [
        Reason(code=code, description=texts.get(code, ""), share=now[0].get(code, 0.0) / now[1],
               reference=then[0].get(code, 0.0) / then[1] if then[1] else None)
        for code in sorted({*now[0], *then[0]}, key=lambda code: -now[0].get(code, 0.0))
    ]  # fmt: skip


def _drifted(judged: Sequence[Characteristic], segments: Sequence[Segment]) -> list[str]:
    groups = [f"{SCORE} of {segment.name} {group.value}" for segment in segments for group in segment.groups
              if group.verdict == "drifted"]  # fmt: skip
    return [*(of.name for of in judged if of.verdict == "drifted"), *groups]


def default_segments(contract: DriftContract) -> list[str]:
    """Return the segments if none are named: the protected attributes, and the client that asked."""
    return [*(feature.name for feature in contract.features if feature.protected), CLIENT]


def _each_day(days: Days) -> list[date]:
    return [date.fromordinal(number) for number in range(days.since.toordinal(), days.until.toordinal())]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
