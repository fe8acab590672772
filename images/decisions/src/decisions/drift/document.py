"""A drift report as it is stored, answered and shown."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from decisions.drift.calibration import GradeCalibration
from decisions.drift.distance import Comparison, ShareChange
from decisions.drift.ranking import Performance

# Drifted: surely above the limit. Unclear: above it, and chance could have done that. Steady: below it.
Verdict = Literal["steady", "unclear", "drifted"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """What counts as drift.

    Attributes:
        psi: Of distributions.
        share: By how much shares of missing or unknown values may rise.
        confidence: With which all verdicts of the report hold together.
        tests: How many those are.
    """

    psi: float
    share: float
    confidence: float
    tests: int


class Bin(_Part):
    """A bin's share, and that of the reference."""

    label: str
    share: float
    reference: float


class Day(_Part):
    """The PSI of one day, less what chance adds to it on average."""

    day: date
    rows: int
    psi: float


class Characteristic(_Part):
    """A distribution that is compared: of a feature, of the score, or of the first-named reasons.

    Attributes:
        name: Of the feature; `score` or `reasons`.
        description: For people.
        protected: Whether it is a protected attribute.
        verdict: The worst of those of its distribution and of its shares.
        rows: How many values the distribution is of.
        reference_rows: How many the reference is of.
        distance: PSI and Jensen-Shannon divergence, with bounds.
        missing: How many values are missing; None if values cannot be.
        outside: How many are outside of what the training data had: its range, or its categories.
        since: From which day on PSI or a share has been above its limit, if it drifted.
    """

    name: str
    description: str
    protected: bool
    verdict: Verdict
    rows: int
    reference_rows: int
    distance: Comparison
    missing: ShareChange | None
    outside: ShareChange | None
    since: date | None
    bins: list[Bin]
    days: list[Day]


class Group(_Part):
    """A segment's value, and what happened to the scores and decisions in it.

    Attributes:
        value: Such as a category, or a client.
        rows: How many decisions.
        share: Of all decisions.
        approval_rate: Of its decisions.
        impact_ratio: Its approval rate over that of the segment's group that is approved most; None if the segment is
            no protected attribute, or there are too few decisions.
        reference_rows: How many there were in the period of comparison.
        reference_approval_rate: Of those.
        scores: The distance between its scores then and now; None with too few then or now.
        verdict: Of the scores.
    """

    value: str
    rows: int
    share: float
    approval_rate: float
    impact_ratio: float | None
    reference_rows: int
    reference_approval_rate: float | None
    scores: Comparison | None
    verdict: Verdict


class Segment(_Part):
    """Groups of decisions, by a feature or by the client that asked."""

    name: str
    protected: bool
    groups: list[Group]


class Reason(_Part):
    """How many of the decisions with reasons name this one, and in the period of comparison."""

    code: str
    description: str
    share: float
    reference: float | None


class VersionPerformance(_Part):
    """A version's approved loans.

    Attributes:
        version: Its number.
        expected: Of the loans of the report's period, if their probabilities are right; None if there are none.
        realized: Of matured loans with an outcome; None if there are none.
        expected_of_realized: What was to be expected of those.
        grades: The calibration of those.
    """

    version: str
    expected: Performance | None
    realized: Performance | None
    expected_of_realized: Performance | None
    grades: list[GradeCalibration]


class Month(_Part):
    """The loans approved in a month.

    Attributes:
        month: Its first day.
        loans: How many.
        expected: Of all of them, if their probabilities are right.
        known: How many have matured and were repaid or defaulted.
        realized: Of those; None if there are none.
        cumulative: The share of all of them that had defaulted after 1, 2, ... months.
    """

    month: date
    loans: int
    expected: Performance
    known: int
    realized: Performance | None
    cumulative: list[float]


class Finding(_Part):
    """Something that people should know: what changed, since when, how bad that is, and what to do."""

    severity: Literal["notice", "warning"]
    subject: str
    what: str
    since: date | None
    how_bad: str
    what_to_do: str


class VersionShare(_Part):
    """How many of the decisions a version made."""

    version: str
    decisions: int


class _Summary(_Part):
    """What a report has in common with its short form.

    Attributes:
        model: The registered model.
        version: The number of the version that the report is about: the one that decided most.
        since: The beginning of the days that are judged.
        until: Their end, which is not part of them.
        verdict: The worst of all.
        drifted: The names of what drifted.
        headline: All of it in one sentence.
        decisions: How many were judged.
    """

    model: str
    version: str
    since: datetime
    until: datetime
    created_at: datetime
    verdict: Verdict
    drifted: list[str]
    headline: str
    findings: list[Finding]
    decisions: int


class Auc(_Part):
    """The AUC of loans, and where it lies with 95 % probability."""

    value: float
    lower: float
    upper: float
    loans: int


class DriftStatus(_Summary):
    """A report in short (contracts/drift-status.schema.json).

    Attributes:
        realized_auc: Of the version's matured loans; None if too few have an outcome.
        expected_auc: Of the loans that it approved in these days; None if there are none.
        new_outcomes: As the report's.
    """

    realized_auc: Auc | None
    expected_auc: Auc | None
    new_outcomes: int | None


class DriftReport(_Summary):
    """All that one run found about one version of a model.

    Attributes:
        feature_reference: What features are compared with: `training`, or the decisions of a period.
        compared_since: The beginning of the period before that reasons and segments are compared with; None without.
        forgotten: How many decisions have no inputs any more.
        default_rate: The through-the-cycle default rate of the version's probabilities, if they were calibrated to one.
        new_outcomes: How many matured loans have an outcome that was not known, or had not matured, when the version
            was registered; None if that moment is not known.
    """

    format_version: Literal[1] = 1
    forgotten: int
    versions: list[VersionShare]
    limits: Limits
    feature_reference: Literal["training", "decisions"]
    compared_since: datetime | None
    score: Characteristic | None
    features: list[Characteristic]
    reasons: Characteristic | None
    named_reasons: list[Reason]
    segments: list[Segment]
    performance: list[VersionPerformance]
    months: list[Month]
    matured_months: int
    default_rate: float | None
    new_outcomes: int | None = None

    @property
    def status(self) -> DriftStatus:
        """The report in short."""
        common = {name: getattr(self, name) for name in _Summary.model_fields}
        own = next((of for of in self.performance if of.version == self.version), None)
        return DriftStatus(
            **common,
            realized_auc=_auc(own.realized if own else None),
            expected_auc=_auc(own.expected if own else None),
            new_outcomes=self.new_outcomes,
        )


def _auc(found: Performance | None) -> Auc | None:
    if found is None or found.auc is None:
        return None
    return Auc(value=found.auc.value, lower=found.auc.lower, upper=found.auc.upper, loans=found.loans)
