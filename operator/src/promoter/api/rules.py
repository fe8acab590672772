"""The rules that a schema cannot express, each once in CEL for the API server and once in Python for the operator.

Kubernetes evaluates CEL from 1.25 on and refuses a broken spec at apply. The operator checks the same rules, so that
older clusters report a broken spec in conditions and an Event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from promoter.api.durations import seconds
from promoter.api.spec import DECISION_LOG, DEFAULT_STEPS, Metric, MetricType, Spec, Step, Strategy


class InvalidSpecError(ValueError):
    """A spec breaks a rule; the message names the field and what is allowed."""


@dataclass(frozen=True)
class Rule:
    """A rule about a spec: in CEL, in words, and in Python."""

    cel: str
    message: str
    holds: Callable[[Spec], bool]


@dataclass(frozen=True)
class TargetRule:
    """A rule about a change of the target: CEL compares with the old object, Python with the target in the status."""

    cel: str
    message: str
    holds: Callable[[Spec, str], bool]


def _one_pointer(spec: Spec) -> bool:
    return sum(value is not None for value in (spec.model.alias, spec.model.stage, spec.model.version)) <= 1


def _each_step(holds: Callable[[Step], bool]) -> Callable[[Spec], bool]:
    return lambda spec: all(map(holds, spec.steps))


def _weights_do_not_decrease(spec: Spec) -> bool:
    weights = [step.weight for step in spec.steps if step.weight is not None]
    return weights == sorted(weights)


def _queries_are_complete(spec: Spec) -> bool:
    def complete(metric: Metric) -> bool:
        return bool(metric.name and metric.query and metric.limit is not None and spec.analysis.prometheus_url)

    return all(complete(metric) for metric in spec.analysis.metrics if metric.type == MetricType.QUERY)


def _sql_is_complete(spec: Spec) -> bool:
    wanted = [metric for metric in spec.analysis.metrics if metric.type == MetricType.SQL]
    return all(metric.name and metric.query and metric.limit is not None for metric in wanted)


def _other_than_disagreement(spec: Spec) -> list[Metric]:
    return [metric for metric in spec.analysis.metrics if metric.type != MetricType.SHADOW_DISAGREEMENT]


def _shadow_if_needed(spec: Spec) -> bool:
    return spec.shadow is not None or len(_other_than_disagreement(spec)) == len(spec.analysis.metrics)


def _live_metric(spec: Spec) -> bool:
    return not spec.analysis.metrics or bool(_other_than_disagreement(spec))


def _unique_names(spec: Spec) -> bool:
    names = [metric.name for metric in spec.analysis.metrics if metric.name]
    return len(names) == len(set(names))


ONE_POINTER = Rule(
    "[has(self.model.alias), has(self.model.stage), has(self.model.version)].filter(x, x).size() <= 1",
    "model: set at most one of alias, stage and version; remove the others",
    _one_pointer,
)
WEIGHT_OR_PAUSE = Rule(
    "!has(self.steps) || self.steps.all(s, has(s.weight) != has(s.pause))",
    "steps: each step needs either weight or pause, not both",
    _each_step(lambda step: (step.weight is None) != (step.pause is None)),
)
WEIGHT_WITH_DURATION = Rule(
    "!has(self.steps) || self.steps.all(s, has(s.weight) == has(s.duration))",
    "steps: a weight needs a duration, and only a weight has one (for a pause, set pause.duration)",
    _each_step(lambda step: (step.weight is None) == (step.duration is None)),
)
SOME_WEIGHT = Rule(
    "!has(self.steps) || self.steps.exists(s, has(s.weight))",
    "steps: at least one step needs a weight",
    lambda spec: any(step.weight is not None for step in spec.steps),
)
WEIGHTS_DO_NOT_DECREASE = Rule(
    "!has(self.steps) || self.steps.filter(s, has(s.weight)).map(s, s.weight).isSorted()",
    "steps: weights must not decrease; reorder the steps or raise the later weight",
    _weights_do_not_decrease,
)
COMPLETE_QUERIES = Rule(
    "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.all(m, m.type != 'Query' || "
    "(has(m.name) && has(m.query) && has(m.limit) && has(self.analysis.prometheusUrl)))",
    "analysis.metrics: a Query needs name, query, limit and analysis.prometheusUrl",
    _queries_are_complete,
)
COMPLETE_SQL = Rule(
    "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.all(m, m.type != 'SQL' || "
    "(has(m.name) && has(m.query) && has(m.limit)))",
    "analysis.metrics: SQL needs name, query and limit",
    _sql_is_complete,
)
SHADOW_FOR_DISAGREEMENT = Rule(
    "has(self.shadow) || !has(self.analysis) || !has(self.analysis.metrics) || "
    "self.analysis.metrics.all(m, m.type != 'ShadowDisagreement')",
    "analysis.metrics: ShadowDisagreement needs spec.shadow; set it or remove the metric",
    _shadow_if_needed,
)
SOME_LIVE_METRIC = Rule(
    "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.size() == 0 || "
    "self.analysis.metrics.exists(m, m.type != 'ShadowDisagreement')",
    "analysis.metrics: ShadowDisagreement alone cannot judge the steps; add another metric",
    _live_metric,
)
UNIQUE_NAMES = Rule(
    "!has(self.analysis) || !has(self.analysis.metrics) || self.analysis.metrics.all(m, !has(m.name) || "
    "self.analysis.metrics.exists_one(n, has(n.name) && n.name == m.name))",
    "analysis.metrics: names must be unique",
    _unique_names,
)
AUTO_TAKES_ITS_TIME = Rule(
    "!has(self.auto) || duration(self.auto.minDuration) <= duration(self.auto.maxDuration)",
    "auto: minDuration must not be longer than maxDuration; shorten the one or lengthen the other",
    lambda spec: spec.auto is None or seconds(spec.auto.min_duration) <= seconds(spec.auto.max_duration),
)
# An API server fills in the default steps, so that those cannot be told from none.
STEPS_OF_A_CANARY = Rule(
    "!has(self.strategy) || self.strategy == 'Canary' || !has(self.steps) || "
    "(self.steps.all(s, has(s.weight) && has(s.duration)) && "
    f"self.steps.map(s, s.weight) == {[step.weight for step in DEFAULT_STEPS]} && "
    f"self.steps.map(s, s.duration) == {[step.duration for step in DEFAULT_STEPS]})",
    "steps: only strategy Canary has steps; remove them (with kubectl apply: `steps: null`)",
    lambda spec: spec.strategy == Strategy.CANARY or spec.steps == DEFAULT_STEPS,
)
AUTO_OF_A_CANARY = Rule(
    "!has(self.strategy) || self.strategy == 'Canary' || !has(self.auto)",
    "auto: only with strategy Canary; remove it",
    lambda spec: spec.strategy == Strategy.CANARY or spec.auto is None,
)
BLUE_GREEN_BY_STRATEGY = Rule(
    "!has(self.blueGreen) || (has(self.strategy) && self.strategy == 'BlueGreen')",
    "blueGreen: only with strategy BlueGreen; set that, or remove it",
    lambda spec: spec.blue_green is None or spec.strategy == Strategy.BLUE_GREEN,
)
EXPERIMENT_BY_STRATEGY = Rule(
    "!has(self.experiment) || (has(self.strategy) && self.strategy == 'Experiment')",
    "experiment: only with strategy Experiment; set that, or remove it",
    lambda spec: spec.experiment is None or spec.strategy == Strategy.EXPERIMENT,
)
EXPERIMENT_IS_ANALYZED = Rule(
    "!has(self.strategy) || self.strategy != 'Experiment' || !self.skipAnalysis",
    "skipAnalysis: an Experiment promotes nothing, so there is no promotion to hasten; remove it",
    lambda spec: spec.strategy != Strategy.EXPERIMENT or not spec.skip_analysis,
)
APPROVALS_ARE_ASKED_FOR = Rule(
    "!has(self.steps) || (!has(self.auto) && (!has(self.skipAnalysis) || !self.skipAnalysis)) || "
    "self.steps.all(s, !has(s.pause) || !has(s.pause.approvals))",
    "steps: with auto or skipAnalysis there are no pauses, so nobody is asked for approvals; remove one or the other",
    lambda spec: not spec.approvals or (spec.auto is None and not spec.skip_analysis),
)
RETRAINING_HAS_A_TRIGGER = Rule(
    "!has(self.retraining) || has(self.retraining.drift) || has(self.retraining.performance) || "
    "has(self.retraining.outcomes) || has(self.retraining.interval)",
    "retraining: set at least one of drift, performance, outcomes and interval; without a trigger nothing is trained",
    lambda spec: (
        (found := spec.retraining) is None or bool(found.drift or found.performance or found.outcomes or found.interval)
    ),
)
PERFORMANCE_HAS_A_LIMIT = Rule(
    "!has(self.retraining) || !has(self.retraining.performance) || has(self.retraining.performance.minAuc) || "
    "has(self.retraining.performance.minExpectedAuc)",
    "retraining.performance: set minAuc or minExpectedAuc, or both",
    lambda spec: spec.retraining is None or (found := spec.retraining.performance) is None
    or found.min_auc is not None or found.min_expected_auc is not None,
)  # fmt: skip
RULES = (
    ONE_POINTER, WEIGHT_OR_PAUSE, WEIGHT_WITH_DURATION, SOME_WEIGHT, WEIGHTS_DO_NOT_DECREASE, COMPLETE_QUERIES,
    COMPLETE_SQL, SHADOW_FOR_DISAGREEMENT, SOME_LIVE_METRIC, UNIQUE_NAMES, AUTO_TAKES_ITS_TIME, STEPS_OF_A_CANARY,
    AUTO_OF_A_CANARY, BLUE_GREEN_BY_STRATEGY, EXPERIMENT_BY_STRATEGY, EXPERIMENT_IS_ANALYZED, APPROVALS_ARE_ASKED_FOR,
    RETRAINING_HAS_A_TRIGGER, PERFORMANCE_HAS_A_LIMIT,
)  # fmt: skip
TARGET_IS_IMMUTABLE = TargetRule(
    "self.targetRef.name == oldSelf.targetRef.name",
    "targetRef: cannot be changed; delete this ModelPromotion and create another one",
    lambda spec, target: spec.target_ref.name == target,
)


def broken_rules(spec: Spec, target: str | None = None) -> list[str]:
    """Return the messages of the rules that a spec breaks; `target` is the Deployment it was created for."""
    broken = [rule.message for rule in RULES if not rule.holds(spec)]
    if target is not None and not TARGET_IS_IMMUTABLE.holds(spec, target):
        broken.append(TARGET_IS_IMMUTABLE.message)
    return broken


def parse_spec(document: Any, target: str | None = None) -> Spec:  # noqa: ANN401 - any JSON
    """Parse and check a spec; `target` is the Deployment that the ModelPromotion was created for.

    Raises:
        InvalidSpecError: names every wrong field and what is allowed.
    """
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        faults = (f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidSpecError("; ".join(faults)) from error
    if broken := broken_rules(spec, target):
        raise InvalidSpecError("; ".join(f"spec.{message}" for message in broken))
    return spec


def require_decision_log(spec: Spec, *, available: bool) -> None:
    """Refuse a spec whose metrics need the decision log if the operator reaches none.

    Raises:
        InvalidSpecError: names the metrics and what to change.
    """
    needing = sorted({metric.type.value for metric in spec.metrics if metric.type in DECISION_LOG})
    if needing and not available:
        raise InvalidSpecError(
            f"spec.analysis.metrics: {', '.join(needing)} needs the decision log; switch it on (the values "
            "decisions.enabled and operator.checks.enabled), or remove the metric"
        )


def target_of(document: Any) -> str:  # noqa: ANN401 - any JSON
    """Return the Deployment that a spec names, even if the spec is otherwise invalid."""
    reference = document.get("targetRef") if isinstance(document, dict) else None
    name = reference.get("name") if isinstance(reference, dict) else None
    return name if isinstance(name, str) else Spec.model_fields["target_ref"].default.name
