"""Results of an analysis: verdicts from bounds, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass

from promoter.api.spec import Metric
from promoter.api.status import MetricResult, Verdict


@dataclass(frozen=True)
class Measured:
    """A value with its bounds.

    `samples` are the pairs or the `unit` behind it, `answers` those of the canary in this step. The bounds are those of
    the value, unless they bound something else against `bounded`; `shown` is what the text then has as value.
    """

    name: str
    value: float
    samples: float
    answers: float
    lower: float
    upper: float
    paired: bool = False
    more: str = ""
    bounded: float | None = None
    shown: float | None = None
    unit: str = "requests"


def graded(metric: Metric, found: Measured, *, margin: float, min_samples: int) -> MetricResult:
    """Return the result of a metric that was measured.

    Args:
        metric: With its limit.
        found: What was measured.
        margin: Below how many times the limit the upper bound must be to pass.
        min_samples: How many answers the canary must have given in this step to pass.
    """
    limit = metric.effective_limit
    bounded = limit if found.bounded is None else found.bounded
    # Nothing is below twice a limit of 0: there, nothing at all may have been found.
    passes_below = margin * bounded
    equivalent = found.upper < passes_below or (not bounded and not found.value)
    text, over = _value(found), f"over {found.samples:.0f} {'pairs' if found.paired else found.unit}{found.more}"
    if found.lower > bounded:
        return _result(metric, Verdict.FAILED, found, f"{text} > {limit:g} {over}")
    if found.value > limit:
        message = f"{text} > {limit:g} {over}, which may be chance: more samples decide"
        return _result(metric, Verdict.INCONCLUSIVE, found, message)
    if not equivalent:
        message = f"{text} <= {limit:g} {over}; passes once its upper bound is below {passes_below:g}"
        return _result(metric, Verdict.INCONCLUSIVE, found, message)
    if found.answers < min_samples:
        message = f"{text} <= {limit:g} {over}; {found.answers:.0f} of {min_samples} samples in this step"
        return _result(metric, Verdict.INCONCLUSIVE, found, message)
    return _result(metric, Verdict.SUCCESSFUL, found, f"{text} <= {limit:g} {over}")


def too_few(metric: Metric, samples: float, needed: int) -> MetricResult:
    """Return the result of a metric with too few samples for a value."""
    message = f"{metric.display_name}: {samples:.0f} of {needed} samples"
    return MetricResult(name=metric.display_name, verdict=Verdict.INCONCLUSIVE, limit=metric.effective_limit,
                        samples=int(samples), message=message)  # fmt: skip


def not_measured(metric: Metric, why: str) -> MetricResult:
    """Return the result of a metric that could not be measured."""
    return MetricResult(name=metric.display_name, verdict=Verdict.ERROR, limit=metric.effective_limit,
                        message=f"{metric.display_name}: could not be measured: {why}")  # fmt: skip


def of_query(metric: Metric, verdict: Verdict, value: float | None, samples: float, text: str) -> MetricResult:
    """Return the result of what was answered without bounds."""
    rounded = None if value is None else round(value, 4)
    return MetricResult(name=metric.display_name, verdict=verdict, value=rounded, limit=metric.effective_limit,
                        samples=int(samples), message=f"{metric.display_name}: {text}")  # fmt: skip


def _value(found: Measured) -> str:
    if found.shown is not None:
        return f"{found.name} {found.shown:.2f}"
    return f"{found.name} {found.value:.3f} ({found.lower:.3f} to {found.upper:.3f})"


def _result(metric: Metric, verdict: Verdict, found: Measured, message: str) -> MetricResult:
    own = found.bounded is None
    return MetricResult(
        name=metric.display_name, verdict=verdict, value=round(found.value, 4), limit=metric.effective_limit,
        lower=round(found.lower, 4) if own else None, upper=round(found.upper, 4) if own else None,
        samples=int(found.samples), message=message,
    )  # fmt: skip
