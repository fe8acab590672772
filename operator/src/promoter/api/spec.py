"""The spec of a ModelPromotion: the single source of the CRD's schema."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from promoter.api import durations
from promoter.api.resource import Approvals, Base

Duration = Annotated[str, Field(pattern=durations.PATTERN, max_length=20)]
LongDuration = Annotated[str, Field(pattern=durations.PATTERN_WITH_DAYS, max_length=20)]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]


# A version passes once it is shown to be within this many times its limits.
EQUIVALENCE = 2.0


class MetricType(StrEnum):
    """What can be measured."""

    ERROR_RATE = "ErrorRate"
    LATENCY_P99 = "LatencyP99"
    SCORE_PSI = "ScorePSI"
    DECISION_SHIFT = "DecisionShift"
    SEGMENT_SHIFT = "SegmentShift"
    REASON_CHANGE = "ReasonChange"
    SHADOW_DISAGREEMENT = "ShadowDisagreement"
    QUERY = "Query"
    ESTIMATED_AUC = "EstimatedAUC"
    GRADE_CALIBRATION = "GradeCalibration"
    REASON_DRIFT = "ReasonDrift"
    SQL = "SQL"


# Measured in the decision log.
DECISION_LOG = frozenset({
    MetricType.ESTIMATED_AUC, MetricType.GRADE_CALIBRATION, MetricType.REASON_DRIFT, MetricType.SQL,
})  # fmt: skip
# One number of one moment, without bounds.
UNBOUNDED = frozenset({MetricType.QUERY, MetricType.SQL})


class Strategy(StrEnum):
    """How applicants come to a new version."""

    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"
    EXPERIMENT = "Experiment"


class OnInsufficientData(StrEnum):
    """What to do at the end of a step with too few samples."""

    WAIT = "Wait"
    PAUSE = "Pause"
    PROCEED = "Proceed"


class ModelRef(Base):
    """A registered model, and the pointer to follow."""

    name: str = Field(min_length=1, max_length=250, description="Name of the registered model.")
    alias: str | None = Field(default=None, min_length=1, max_length=100, description=(
        "Alias to follow. Defaults to `production` if none of alias, stage and version is set."))  # fmt: skip
    stage: str | None = Field(default=None, min_length=1, max_length=100, description=(
        "Stage to follow: its newest version."))  # fmt: skip
    version: str | None = Field(default=None, pattern=r"^[1-9][0-9]{0,8}$", description="Version to pin.")

    @property
    def pointer(self) -> tuple[str, str]:
        """Return the pointer's kind (alias, stage or version) and its value."""
        if self.version:
            return "version", self.version
        if self.stage:
            return "stage", self.stage
        return "alias", self.alias or "production"


class TargetRef(Base):
    """The Deployment that serves the model, in the namespace of the ModelPromotion."""

    name: Name = Field(default="scoring", description=(
        "Name of the Deployment, and of its Service. Cannot be changed later."))  # fmt: skip


class Shadow(Base):
    """A first phase in which the canary scores copies of requests and answers none."""

    duration: Duration = Field(default="5m", description="Minimum duration of the shadow phase.")
    percent: int = Field(default=100, ge=1, le=100, description="Percentage of applicants whose requests are copied.")


class Pause(Base):
    """A pause at the current weight."""

    duration: Duration | None = Field(default=None, description=(
        "Length of the pause. Without one, the rollout waits for the action `resume`."))  # fmt: skip
    approvals: Approvals | None = Field(default=None, description=(
        "Wait until this many people have approved, instead of for `resume`; with a duration, at least that long."
    ))  # fmt: skip


class Step(Base):
    """One step: a weight with a duration, or a pause."""

    weight: int | None = Field(default=None, ge=1, le=100, description="Percentage of applicants the canary answers.")
    duration: Duration | None = Field(default=None, description="Minimum duration of the analysis at this weight.")
    pause: Pause | None = Field(default=None, description=(
        "Stay at the current weight; `{}` pauses until resumed."))  # fmt: skip


class Auto(Base):
    """A rollout whose weight grows as far as the evidence allows."""

    min_duration: Duration = Field(default="5m", description="Shortest time that the weights take together.")
    max_duration: Duration = Field(default="2h", description=(
        "Time after which a rollout without enough evidence pauses until resumed, or goes on if onInsufficientData is "
        "Proceed."))  # fmt: skip
    max_weight: int = Field(default=50, ge=1, le=100, description=(
        "The last weight, from which the version is promoted."))  # fmt: skip


class BlueGreen(Base):
    """A rollout that switches all applicants at once, between two full sets of pods."""

    observe: Duration = Field(default="10m", description=(
        "Minimum duration of the analysis after the switch, before the stable pods are updated."))  # fmt: skip
    keep_for: Duration = Field(default="0s", description=(
        "How long after the promotion a full copy of the version before stays ready, so that a return to it takes "
        "seconds; 0s: none."))  # fmt: skip


class Experiment(Base):
    """A comparison at a fixed share for a fixed time, after which the champion answers everybody again."""

    weight: int = Field(default=50, ge=1, le=99, description="Percentage of applicants the challenger answers.")
    duration: LongDuration = Field(default="7d", description=(
        "Length of the experiment, once every stable pod applies the weight; also in days, as in 7d."))  # fmt: skip


class Canary(Base):
    """The canary's pods."""

    replicas: int = Field(default=1, ge=1, le=50, description=(
        "Number of canary pods during the steps; for the promotion, at least as many as stable pods."))  # fmt: skip
    deadline_milliseconds: int = Field(default=1000, ge=10, le=10000, description=(
        "How long a stable pod waits for the canary before it answers the request itself."))  # fmt: skip


class Metric(Base):
    """One measurement, and its limit."""

    type: MetricType = Field(description="What to measure.")
    limit: float | None = Field(default=None, ge=0, description=(
        "Values above the limit fail. Defaults: ErrorRate 0.02 (share), LatencyP99 2 (times the champion's), ScorePSI "
        "0.2, DecisionShift 0.05 (difference of decline rates), SegmentShift 0.1 (rise of a segment's decline rate), "
        "ReasonChange 0.3 (share), ShadowDisagreement 0.1 (share), EstimatedAUC 0.03 (lower than the champion's), "
        "GradeCalibration 0.05 (default rate above the PD), ReasonDrift 0.2. Required for Query and SQL."
    ))  # fmt: skip
    name: Name | None = Field(default=None, description="Name in results and messages. Required for Query and SQL.")
    query: str | None = Field(default=None, min_length=1, max_length=2000, description=(
        "PromQL that returns one number; $namespace, $target, $stable and $canary (versions) and $window are replaced. "
        "Of SQL: a SELECT that returns one number, with the parameters :version (the canary's), :stable and :since."
    ))  # fmt: skip
    matured_days: int | None = Field(default=None, ge=0, le=3650, description=(
        "Of GradeCalibration and EstimatedAUC: how old a decision must be for its outcome to count, in days. Default: "
        "365."
    ))  # fmt: skip

    @property
    def display_name(self) -> str:
        """Return the name used in results and messages."""
        return self.name or self.type.value

    @property
    def effective_limit(self) -> float:
        """Return the limit, or the default of the type."""
        return DEFAULT_LIMITS[self.type] if self.limit is None else self.limit


DEFAULT_LIMITS = {
    MetricType.ERROR_RATE: 0.02,
    MetricType.LATENCY_P99: 2.0,
    MetricType.SCORE_PSI: 0.2,
    MetricType.DECISION_SHIFT: 0.05,
    MetricType.SEGMENT_SHIFT: 0.1,
    MetricType.REASON_CHANGE: 0.3,
    MetricType.SHADOW_DISAGREEMENT: 0.1,
    MetricType.QUERY: 0.0,
    MetricType.ESTIMATED_AUC: 0.03,
    MetricType.GRADE_CALIBRATION: 0.05,
    MetricType.REASON_DRIFT: 0.2,
    MetricType.SQL: 0.0,
}


class Analysis(Base):
    """How the canary is measured and judged."""

    interval: Duration = Field(default="30s", description="Time between two measurements.")
    min_samples: int = Field(default=100, ge=1, le=1_000_000, description=(
        "Minimum number of answers, from the canary and from the champion it is compared with, for a step to pass."
    ))  # fmt: skip
    false_rollback: float = Field(default=0.01, ge=0.0001, le=0.2, description=(
        "The chance that a version within all limits is ever rolled back for them."))  # fmt: skip
    missed_regression: float = Field(default=0.01, ge=0.0001, le=0.2, description=(
        "The chance that a version at twice a limit is promoted."))  # fmt: skip
    failure_limit: int = Field(default=2, ge=1, le=100, description=(
        "Number of Failed verdicts of ErrorRate, LatencyP99, a Query or SQL, and of losses of all canary pods, in a "
        "rollout that causes a rollback. All else is rolled back at its first Failed verdict."))  # fmt: skip
    error_limit: int = Field(default=5, ge=1, le=100, description=(
        "Number of consecutive Error verdicts (could not measure) that causes a rollback."))  # fmt: skip
    on_insufficient_data: OnInsufficientData = Field(default=OnInsufficientData.WAIT, description=(
        "What to do at the end of a step without a verdict: Wait for more data, Pause until resumed, or Proceed."
    ))  # fmt: skip
    prometheus_url: str | None = Field(default=None, pattern=r"^https?://", max_length=500, description=(
        "Base URL of the Prometheus server for Query metrics."))  # fmt: skip
    metrics: tuple[Metric, ...] = Field(default=(), max_length=20, description=(
        "What to measure. By default ErrorRate, LatencyP99, ScorePSI, DecisionShift, SegmentShift and, with a shadow "
        "phase, ShadowDisagreement, with the default limits."
    ))  # fmt: skip


class DriftTrigger(Base):
    """Train again after drift."""

    duration: LongDuration = Field(default="3d", description=(
        "How long drift reports must have found drift without a break; 0s: one report is enough."))  # fmt: skip


class PerformanceTrigger(Base):
    """Train again if the stable version ranks loans too badly."""

    min_auc: float | None = Field(default=None, ge=0.5, le=1, description=(
        "Train when the realized AUC of the stable version's matured loans is surely below this (its 95 % interval)."
    ))  # fmt: skip
    min_expected_auc: float | None = Field(default=None, ge=0.5, le=1, description=(
        "Train when the AUC to be expected of the loans that it approves is surely below this; needs no outcomes."
    ))  # fmt: skip


class OutcomesTrigger(Base):
    """Train again when there is enough to learn from that the stable version does not know."""

    min_new: int = Field(ge=1, le=1_000_000_000, description=(
        "Train when so many matured loans have an outcome that was not known, or had not matured, when the stable "
        "version was registered."))  # fmt: skip


class Retraining(Base):
    """When to train a new version, by a Job from the template of a CronJob."""

    cron_job: Name = Field(default="retraining", description="Name of the CronJob with the Job's template.")
    drift: DriftTrigger | None = Field(default=None, description=(
        "Train when the condition Drifted has been True for some time."))  # fmt: skip
    performance: PerformanceTrigger | None = Field(default=None, description="Train when the AUC is worse than that.")
    outcomes: OutcomesTrigger | None = Field(default=None, description="Train when there are enough new outcomes.")
    interval: LongDuration | None = Field(default=None, description=(
        "Train when the last training or promotion is this long ago, as in 30d."))  # fmt: skip
    cooldown: LongDuration = Field(default="1d", description=(
        "Time between two trainings, at least 1m. Each failure in a row doubles it, up to 28 days."))  # fmt: skip
    max_per_week: int = Field(default=2, ge=1, le=20, description="Number of trainings in any seven days.")
    max_duration: Duration = Field(default="2h", description=(
        "Time after which the Job is stopped, if the template does not stop it sooner."))  # fmt: skip


_DEFAULT_METRICS = (
    MetricType.ERROR_RATE, MetricType.LATENCY_P99, MetricType.SCORE_PSI, MetricType.DECISION_SHIFT,
    MetricType.SEGMENT_SHIFT,
)  # fmt: skip
# In BlueGreen, which needs one, if none is set.
DEFAULT_SHADOW = Shadow(duration="1m")
DEFAULT_STEPS = (
    Step(weight=5, duration="5m"),
    Step(weight=25, duration="5m"),
    Step(weight=50, duration="5m"),
)


class Spec(Base):
    """The desired state: which model to follow, where it is served, and how to roll out its versions."""

    model: ModelRef = Field(description="The registered model, and the pointer to follow.")
    target_ref: TargetRef = Field(default=TargetRef(), description="The Deployment that serves the model.")
    strategy: Strategy = Field(default=Strategy.CANARY, description=(
        "How applicants come to a new version: by `steps` or `auto` (Canary), all at once (BlueGreen), or a share of "
        "them for a time, without a promotion (Experiment)."))  # fmt: skip
    shadow: Shadow | None = Field(default=None, description=(
        "A shadow phase before the first step: optional, but BlueGreen always has one, of a minute by default."
    ))  # fmt: skip
    steps: tuple[Step, ...] = Field(default=DEFAULT_STEPS, min_length=1, max_length=20, description=(
        "Steps of a rollout, in order. Weights must not decrease. After the last step the version is promoted."
    ))  # fmt: skip
    auto: Auto | None = Field(default=None, description=(
        "Let the weight grow as far as the evidence allows, instead of by `steps`."))  # fmt: skip
    blue_green: BlueGreen | None = Field(default=None, description="What BlueGreen does; only with that strategy.")
    experiment: Experiment | None = Field(default=None, description=(
        "Share and length of an Experiment; only with that strategy."))  # fmt: skip
    canary: Canary = Field(default=Canary(), description="The canary's pods.")
    analysis: Analysis = Field(default=Analysis(), description="How the canary is measured and judged.")
    progress_deadline_seconds: int = Field(default=600, ge=5, le=86400, description=(
        "Deadline for the canary to become ready, for stable pods to apply a weight, and for the promotion's rolling "
        "update."))  # fmt: skip
    rollback_window: int = Field(default=1, ge=0, le=10, description=(
        "A return to one of this many last stable versions skips the canary."))  # fmt: skip
    retraining: Retraining | None = Field(default=None, description="When to train a new version; unset: never.")
    suspend: bool = Field(default=False, description=(
        "Start no rollout and no training, and stay at the current step. A version that fails is still rolled back."
    ))  # fmt: skip
    skip_analysis: bool = Field(default=False, description="Promote as soon as the canary is ready, without analysis.")

    @property
    def approvals(self) -> tuple[Approvals, ...]:
        """Return what the pauses ask for, in order."""
        return tuple(step.pause.approvals for step in self.steps if step.pause and step.pause.approvals)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return what to measure: the listed metrics, or the defaults."""
        if self.analysis.metrics:
            return self.analysis.metrics
        kinds = [*_DEFAULT_METRICS, *([MetricType.SHADOW_DISAGREEMENT] if self.shadow else [])]
        return tuple(Metric(type=kind) for kind in kinds)
