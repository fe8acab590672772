"""Check ModelPromotions in files: what would be refused, and what works but hardly as meant."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from promoter.api.crd import crd
from promoter.api.durations import seconds
from promoter.api.resource import API_VERSION, KIND
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import MetricType, OnInsufficientData, Spec, Strategy
from promoter.decision.plan import PlannedStep, plan, shadow_of
from promoter.words.times import duration

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# Without a known rate of requests, steps that need more than this are pointed out.
_USUAL_REQUESTS_PER_SECOND = 10.0
_SMALLEST_LAST_WEIGHT, _LARGEST_FIRST_WEIGHT, _LARGEST_JUMP = 20, 50, 10
_SHORTEST_DEADLINE_SECONDS = 60
# Shares and differences of shares cannot exceed 1.
_SHARES = {MetricType.ERROR_RATE, MetricType.DECISION_SHIFT, MetricType.SHADOW_DISAGREEMENT}
# Where the length of the one step is.
_FIELDS = {Strategy.BLUE_GREEN: "spec.blueGreen.observe", Strategy.EXPERIMENT: "spec.experiment.duration"}
# What these are compared with is what the champion answers itself.
_NEED_CHAMPION = {MetricType.LATENCY_P99, MetricType.SCORE_PSI, MetricType.DECISION_SHIFT}


@dataclass(frozen=True)
class Finding:
    """Something to mend.

    Attributes:
        severity: An error is refused by the API server or the operator; a warning is not.
        where: The field, as in `spec.steps[0].weight`.
    """

    severity: Literal["error", "warning"]
    where: str
    message: str

    def to_document(self) -> dict[str, str]:
        """Return the finding for programs."""
        return {"severity": self.severity, "where": self.where, "message": self.message}


def lint_text(text: str, *, requests_per_second: float | None = None) -> list[tuple[str, list[Finding]]]:
    """Return the findings of each ModelPromotion in a YAML or JSON text, by its name; other kinds are left out.

    Args:
        text: One or more documents.
        requests_per_second: Of all clients together; tells whether minSamples can be reached in time.

    Raises:
        ValueError: the text is not YAML.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    return [
        (str((document.get("metadata") or {}).get("name", "(no name)")), lint(document, requests_per_second))
        for document in _flat(documents)
        if document.get("kind") == KIND
    ]


def _flat(documents: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from _flat(document.get("items") or [])
        elif isinstance(document, dict):
            yield document


def lint(document: dict[str, Any], requests_per_second: float | None = None) -> list[Finding]:
    """Return the findings of one ModelPromotion, errors first."""
    errors = [*_head(document), *_unknown_fields(document)]
    try:
        spec = parse_spec(document.get("spec"))
    except InvalidSpecError as error:
        return [*errors, *(_error(*fault.split(": ", 1)) for fault in str(error).split("; spec."))]
    return [*errors, *_steps(spec), *_metrics(spec), *_samples(spec, requests_per_second), *_rest(spec)]


def _head(document: dict[str, Any]) -> Iterator[Finding]:
    if document.get("apiVersion") != API_VERSION:
        yield _error("apiVersion", f"{document.get('apiVersion')!r}; allowed: {API_VERSION}")
    name = (document.get("metadata") or {}).get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 253:
        yield _error("metadata.name", f"{name!r}; allowed: lower-case letters, digits, - and ., at most 253")


def _unknown_fields(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield fields that the definition does not have: kubectl refuses them, and older servers drop them silently."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from _unknown(document.get("spec"), schema["properties"]["spec"], "spec")


def _unknown(value: Any, schema: dict[str, Any], where: str) -> Iterator[Finding]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        for name, inner in value.items():
            if name in known:
                yield from _unknown(inner, known[name], f"{where}.{name}")
            else:
                close = difflib.get_close_matches(str(name), known, 1)
                meant = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
                yield _error(f"{where}.{name}", f"unknown field; {meant}")
    if isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            yield from _unknown(inner, schema["items"], f"{where}[{index}]")


def _steps(spec: Spec) -> Iterator[Finding]:
    weights = [step.weight for step in spec.steps if step.weight is not None]
    canary = spec.strategy == Strategy.CANARY
    if spec.skip_analysis:
        yield _warning("spec.skipAnalysis", "every version is promoted as soon as its canary is ready; steps and "
                                            "metrics are not used")  # fmt: skip
        return
    if canary and weights[-1] < _SMALLEST_LAST_WEIGHT:
        yield _warning("spec.steps", f"a version is promoted to everybody after at most {weights[-1]} %; add a step of "
                                     f"{_SMALLEST_LAST_WEIGHT} % or more")  # fmt: skip
    if canary and weights[0] > _LARGEST_FIRST_WEIGHT and not spec.shadow:
        yield _warning("spec.steps", f"the first step gives an unknown version {weights[0]} % of the applicants; begin "
                                     "with less, or with a shadow phase")  # fmt: skip
    for before, after in itertools.pairwise(weights if canary else ()):
        if after == before:
            yield _warning("spec.steps", f"{before} % twice in a row; one longer step judges on more samples, because "
                                         "each step counts anew")  # fmt: skip
        elif after > before * _LARGEST_JUMP:
            yield _warning("spec.steps", f"from {before} % to {after} % at once; a step between limits the harm of a "
                                         "version that fails under load")  # fmt: skip
    interval = seconds(spec.analysis.interval)
    for where, step in _judged(spec):
        if step.seconds is not None and step.seconds < interval:
            yield _warning(where, f"{duration(step.seconds)} is shorter than analysis.interval "
                                  f"({spec.analysis.interval}): the canary is judged once, at the end")  # fmt: skip


def _metrics(spec: Spec) -> Iterator[Finding]:
    for index, metric in enumerate(spec.analysis.metrics):
        where = f"spec.analysis.metrics[{index}].limit"
        if metric.type in _SHARES and metric.effective_limit >= 1:
            yield _warning(where, f"{metric.type.value} is at most 1, so {metric.effective_limit:g} never fails")
        if metric.type == MetricType.LATENCY_P99 and metric.effective_limit < 1:
            yield _warning(where, f"{metric.effective_limit:g} times the champion's latency: as fast as the champion "
                                  "is not fast enough")  # fmt: skip
    kinds = {metric.type for metric in spec.metrics}
    if spec.shadow and MetricType.SHADOW_DISAGREEMENT not in kinds:
        yield _warning("spec.shadow", "no metric ShadowDisagreement judges what the shadow phase compares")
    if not spec.skip_analysis and MetricType.ERROR_RATE not in kinds:
        yield _warning("spec.analysis.metrics", "no ErrorRate: a canary that fails every request may be promoted, "
                                                "because stable pods answer instead")  # fmt: skip


def _samples(spec: Spec, requests_per_second: float | None) -> Iterator[Finding]:
    """Yield the steps that cannot get minSamples in time."""
    if spec.skip_analysis:
        return
    needed, ending = spec.analysis.min_samples, _without_samples(spec)
    compares = bool(_NEED_CHAMPION & {metric.type for metric in spec.metrics})
    champion = 0.0
    for where, step in _judged(spec):
        # In the shadow phase every request is answered by the champion, too; at 100 % its answers before are kept.
        others = 100.0 if step.mode == "shadow" else 100.0 - step.weight
        others = champion = others or champion
        if compares and not others:
            yield _warning(where, f"at {step.weight} % the champion answers nobody, so metrics that compare with it "
                                  f"never get {needed} samples; {ending}")  # fmt: skip
            continue
        share = min(step.weight, others) / 100 if compares else step.weight / 100
        if not step.seconds:
            continue
        rate = needed / (share * step.seconds)
        if requests_per_second is not None and requests_per_second < rate:
            got = math.floor(requests_per_second * share * step.seconds)
            yield _warning(where, f"about {got} of {needed} samples in {duration(step.seconds)} at "
                                  f"{requests_per_second:g} requests/s; {ending}")  # fmt: skip
        elif requests_per_second is None and rate > _USUAL_REQUESTS_PER_SECOND:
            yield _warning(where, f"minSamples {needed} in {duration(step.seconds)} at {step.weight} % takes "
                                  f"{rate:.3g} requests/s or more; with fewer, {ending}")  # fmt: skip


def _rest(spec: Spec) -> Iterator[Finding]:
    promotes = spec.strategy != Strategy.EXPERIMENT and not spec.skip_analysis
    if spec.analysis.on_insufficient_data == OnInsufficientData.PROCEED and promotes:
        yield _warning("spec.analysis.onInsufficientData", "Proceed promotes a version about which nothing is known")
    if spec.progress_deadline_seconds < _SHORTEST_DEADLINE_SECONDS:
        yield _warning("spec.progressDeadlineSeconds", f"{spec.progress_deadline_seconds} s may be too short to pull "
                                                       "an image, load a model and become ready")  # fmt: skip


def _judged(spec: Spec) -> Iterator[tuple[str, PlannedStep]]:
    """Yield the steps that analyze a canary, with their fields."""
    shadows = 1 if shadow_of(spec) else 0
    for index, step in enumerate(plan(spec)):
        if step.mode != "pause":
            listed = _FIELDS.get(spec.strategy, f"spec.steps[{index - shadows}]")
            yield "spec.shadow" if index < shadows else listed, step


def _without_samples(spec: Spec) -> str:
    if spec.strategy == Strategy.EXPERIMENT:
        return "the experiment then ends without a verdict"
    return {
        OnInsufficientData.WAIT: "the step then waits (onInsufficientData: Wait)",
        OnInsufficientData.PAUSE: "the rollout then pauses until resumed (onInsufficientData: Pause)",
        OnInsufficientData.PROCEED: "the step then passes unjudged (onInsufficientData: Proceed)",
    }[spec.analysis.on_insufficient_data]


def _error(where: str, message: str = "invalid") -> Finding:
    return Finding("error", where if where.startswith(("spec", "apiVersion", "metadata")) else f"spec.{where}", message)


def _warning(where: str, message: str) -> Finding:
    return Finding("warning", where, message)
