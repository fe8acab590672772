"""What a ModelPromotion asks for: the one source of the CRD's schema and of its rules."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from promoter.api import durations

GROUP, VERSION, PLURAL, KIND = "creditrisk.io", "v1alpha1", "modelpromotions", "ModelPromotion"
API_VERSION = f"{GROUP}/{VERSION}"

Duration = Annotated[str, Field(pattern=durations.PATTERN, max_length=20)]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]


class InvalidSpecError(ValueError):
    """A spec breaks a rule; says which, and what is allowed."""


class Base(BaseModel):
    """A part of the resource: camelCase outside, snake_case inside, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", protected_namespaces=()
    )


class MetricType(StrEnum):
    """What can be judged."""

    ERROR_RATE = "ErrorRate"
    LATENCY_P99 = "LatencyP99"
    SCORE_PSI = "ScorePSI"
    DECISION_SHIFT = "DecisionShift"
    SHADOW_DISAGREEMENT = "ShadowDisagreement"
    QUERY = "Query"


class OnInsufficientData(StrEnum):
    """What happens at the end of a step for which too little was measured."""

    WAIT = "Wait"
    PAUSE = "Pause"
    PROCEED = "Proceed"


class ModelRef(Base):
    """Which registered model, and which pointer into its versions."""

    name: str = Field(min_length=1, max_length=250, description="The registered model's name.")
    alias: str | None = Field(default=None, min_length=1, max_length=100, description=(
        "Follow this alias. `production` where none of alias, stage and version is given."))  # fmt: skip
    stage: str | None = Field(default=None, min_length=1, max_length=100, description="Follow this stage's newest.")
    version: str | None = Field(default=None, pattern=r"^[1-9][0-9]{0,8}$", description="Stay at this version.")

    @property
    def pointer(self) -> tuple[str, str]:
        """Return the pointer's kind (alias, stage or version) and its value."""
        if self.version:
            return "version", self.version
        if self.stage:
            return "stage", self.stage
        return "alias", self.alias or "production"


class TargetRef(Base):
    """The Deployment that serves the model; in the ModelPromotion's namespace."""

    name: Name = Field(default="scoring", description="The Deployment's name; its Service has the same.")


class Shadow(Base):
    """Copies of requests go to the canary first, and nobody is answered by it."""

    duration: Duration = Field(default="5m", description="How long, at least.")
    percent: int = Field(default=100, ge=1, le=100, description="Share of the applicants whose requests are copied.")


class Pause(Base):
    """Hold the weight."""

    duration: Duration | None = Field(default=None, description="How long; without one, until resumed by hand.")


class Step(Base):
    """One step: a weight with a duration, or a pause."""

    weight: int | None = Field(default=None, ge=1, le=100, description="Percent of the applicants for the canary.")
    duration: Duration | None = Field(default=None, description="How long the weight is judged, at least.")
    pause: Pause | None = Field(default=None, description="Hold; {} until resumed by hand.")


class Canary(Base):
    """The canary's pods."""

    replicas: int = Field(default=1, ge=1, le=50, description="How many; fixed over the rollout.")
    deadline_milliseconds: int = Field(default=1000, ge=10, le=10000, description=(
        "How long a stable pod waits for the canary's answer before it answers by itself."))  # fmt: skip


class Metric(Base):
    """One thing that is judged."""

    type: MetricType = Field(description="What is measured.")
    limit: float | None = Field(default=None, ge=0, description=(
        "Above it is Failed. Defaults: ErrorRate 0.02 (share), LatencyP99 2 (times the champion's), ScorePSI 0.2, "
        "DecisionShift 0.05 (difference of the approval rates), ShadowDisagreement 0.1 (share); Query needs one."
    ))  # fmt: skip
    name: Name | None = Field(default=None, description="A Query's name in results and messages.")
    query: str | None = Field(default=None, min_length=1, max_length=2000, description=(
        "PromQL that gives one number; $namespace, $target, $stable, $canary (versions) and $window are filled in."
    ))  # fmt: skip

    @property
    def title(self) -> str:
        """Return the name that results and messages use."""
        return self.name or self.type.value

    @property
    def bound(self) -> float:
        """Return the limit, or the default of the type."""
        return DEFAULT_LIMITS[self.type] if self.limit is None else self.limit


DEFAULT_LIMITS = {
    MetricType.ERROR_RATE: 0.02,
    MetricType.LATENCY_P99: 2.0,
    MetricType.SCORE_PSI: 0.2,
    MetricType.DECISION_SHIFT: 0.05,
    MetricType.SHADOW_DISAGREEMENT: 0.1,
    MetricType.QUERY: 0.0,
}


class Analysis(Base):
    """How the canary is judged."""

    interval: Duration = Field(default="30s", description="Time between two judgements.")
    min_samples: int = Field(default=100, ge=1, le=1_000_000, description=(
        "With fewer answers of the canary, or of the champion it is compared with, nothing passes."))  # fmt: skip
    failure_limit: int = Field(default=2, ge=1, le=100, description="At the how-manieth Failed it is rolled back.")
    error_limit: int = Field(default=5, ge=1, le=100, description=(
        "At the how-manieth Error (could not measure) in a row it is rolled back."))  # fmt: skip
    on_insufficient_data: OnInsufficientData = Field(default=OnInsufficientData.WAIT, description=(
        "At a step's end without a verdict: Wait for more, Pause until resumed, or Proceed."))  # fmt: skip
    prometheus_url: str | None = Field(default=None, pattern=r"^https?://", max_length=500, description=(
        "Where Query metrics are asked."))  # fmt: skip
    metrics: tuple[Metric, ...] = Field(default=(), max_length=20, description=(
        "What is judged; all but Query, with their default limits, where none is given."))  # fmt: skip


_DEFAULT_STEPS = (
    Step(weight=5, duration="5m"),
    Step(weight=25, duration="5m"),
    Step(weight=50, duration="5m"),
)


class Spec(Base):
    """A standing promotion of one served model."""

    model: ModelRef = Field(description="What is promoted.")
    target_ref: TargetRef = Field(default=TargetRef(), description="Where it is served.")
    shadow: Shadow | None = Field(default=None, description="Copies first, before anybody is answered.")
    steps: tuple[Step, ...] = Field(default=_DEFAULT_STEPS, min_length=1, max_length=20, description=(
        "In turn; weights rise. After the last one the version is promoted."))  # fmt: skip
    canary: Canary = Field(default=Canary(), description="The canary's pods.")
    analysis: Analysis = Field(default=Analysis(), description="How the canary is judged.")
    progress_deadline_seconds: int = Field(default=600, ge=5, le=86400, description=(
        "How long the canary may take to be ready, the stable pods to see a weight, and the promotion to roll."
    ))  # fmt: skip
    rollback_window: int = Field(default=1, ge=0, le=10, description=(
        "A return to one of so many last stable versions goes straight in."))  # fmt: skip
    suspend: bool = Field(default=False, description="Start nothing and go no step on; still take a bad one back.")
    skip_analysis: bool = Field(default=False, description="Promote as soon as the canary is ready, unjudged.")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return what is judged, with the defaults where the spec lists nothing."""
        if self.analysis.metrics:
            return self.analysis.metrics
        skipped = {MetricType.QUERY} | (set() if self.shadow else {MetricType.SHADOW_DISAGREEMENT})
        return tuple(Metric(type=kind) for kind in MetricType if kind not in skipped)


# The rules that no schema says: for new clusters in CEL, checked by the API server; for old ones the same in code.
CEL_RULES: tuple[tuple[str, str], ...] = (
    (
        "[has(self.model.alias), has(self.model.stage), has(self.model.version)].filter(x, x).size() <= 1",
        "model: give at most one of alias, stage and version",
    ),
    (
        "!has(self.steps) || self.steps.all(s, has(s.weight) != has(s.pause))",
        "steps: each has either weight or pause",
    ),
    (
        "!has(self.steps) || self.steps.all(s, has(s.weight) == has(s.duration))",
        "steps: a weight needs a duration, and only a weight has one (a pause's stands in pause.duration)",
    ),
    (
        "!has(self.steps) || self.steps.exists(s, has(s.weight))",
        "steps: at least one has a weight",
    ),
    (
        "!has(self.steps) || self.steps.filter(s, has(s.weight)).map(s, s.weight).isSorted()",
        "steps: weights never fall",
    ),
    (
        "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.all(m, m.type != 'Query' || "
        "(has(m.name) && has(m.query) && has(m.limit) && has(self.analysis.prometheusUrl)))",
        "analysis.metrics: a Query needs name, query, limit and analysis.prometheusUrl",
    ),
    (
        "has(self.shadow) || !has(self.analysis) || !has(self.analysis.metrics) || "
        "self.analysis.metrics.all(m, m.type != 'ShadowDisagreement')",
        "analysis.metrics: ShadowDisagreement needs shadow",
    ),
    (
        "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.size() == 0 || "
        "self.analysis.metrics.exists(m, m.type != 'ShadowDisagreement')",
        "analysis.metrics: ShadowDisagreement alone judges no step; give at least one other",
    ),
    (
        "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.all(m, !has(m.name) || "
        "self.analysis.metrics.exists_one(n, has(n.name) && n.name == m.name))",
        "analysis.metrics: names differ",
    ),
)

# Needs the object as it was; the operator compares with the target in the status.
IMMUTABLE_RULE = (
    "self.targetRef.name == oldSelf.targetRef.name",
    "targetRef: cannot change; delete this ModelPromotion and make another one",
)


def broken_rules(spec: Spec) -> list[str]:
    """Return the messages of the rules that a spec breaks; the same rules, in the same order, as `CEL_RULES`."""
    steps, metrics = spec.steps, spec.analysis.metrics
    weights = [step.weight for step in steps if step.weight is not None]
    names = [metric.name for metric in metrics if metric.name]
    kept = (
        sum(x is not None for x in (spec.model.alias, spec.model.stage, spec.model.version)) <= 1,
        all((step.weight is None) != (step.pause is None) for step in steps),
        all((step.weight is None) == (step.duration is None) for step in steps),
        bool(weights),
        weights == sorted(weights),
        all(m.type != MetricType.QUERY or (m.name and m.query and m.limit is not None and spec.analysis.prometheus_url)
            for m in metrics),
        spec.shadow is not None or all(m.type != MetricType.SHADOW_DISAGREEMENT for m in metrics),
        not metrics or any(m.type != MetricType.SHADOW_DISAGREEMENT for m in metrics),
        len(names) == len(set(names)),
    )  # fmt: skip
    return [message for ok, (_, message) in zip(kept, CEL_RULES, strict=True) if not ok]


def parse_spec(document: Any, target: str | None = None) -> Spec:  # noqa: ANN401 - whatever stands in the object
    """Read and check a spec; `target` is the Deployment that the promotion began with.

    Raises:
        InvalidSpecError: names every field that is wrong and what is allowed.
    """
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        faults = (f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidSpecError("; ".join(faults)) from error
    broken = broken_rules(spec)
    if target not in {None, spec.target_ref.name}:
        broken.append(IMMUTABLE_RULE[1])
    if broken:
        raise InvalidSpecError("; ".join(f"spec.{message}" for message in broken))
    return spec
