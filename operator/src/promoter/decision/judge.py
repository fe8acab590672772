"""Verdicts on a canary from what was counted: numbers in, verdicts out.

A metric is Failed once its lower bound is above the limit, and Successful once its upper bound is below twice the limit
while its value is within it. In between it is Inconclusive: more samples decide. The bounds hold at all looks together,
so that a good version is rolled back with at most the chance `falseRollback`, and a version at twice a limit passes
with at most the chance `missedRegression`, however often and for however long it is judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from promoter.api.spec import DECISION_LOG, EQUIVALENCE, UNBOUNDED, Metric, MetricType, Spec
from promoter.api.status import MetricResult, Verdict
from promoter.decision import stability
from promoter.decision.chances import Chances
from promoter.decision.evidence import bets_against, lower_bound, normal_radius, share_variance, upper_bound
from promoter.decision.observation import CheckAnswer
from promoter.decision.results import Measured, graded, not_measured, of_query, too_few
from promoter.decision.totals import Changes, StepTotals, Totals, count_above, count_of, histogram, quantile

# The hop alone changes latencies by a few milliseconds; smaller differences than this never fail.
LATENCY_SLACK_SECONDS = 0.02
# The share of answers that may be slower than the limit.
_SLOW_SHARE = 0.01
# Errors come in bursts, as when a pod starts: fewer requests than this never fail a version.
_FEWEST_FOR_ERRORS = 10
# A segment with a smaller share of the pairs may fail a version, but a step does not wait until it is shown to be good.
_SEGMENT_SHARE = 0.05

Judge = Callable[[Metric, StepTotals, Chances], MetricResult]


def judge(
    spec: Spec,
    totals: Totals,
    *,
    shadowing: bool,
    unreadable: Sequence[str],
    queries: Mapping[str, float | str],
    checks: Mapping[Metric, CheckAnswer | str] = MappingProxyType({}),
    steps: int = 1,
    margin: float = EQUIVALENCE,
) -> tuple[Verdict, tuple[MetricResult, ...]]:
    """Judge every metric of a spec.

    Args:
        spec: The metrics, their limits and the chances of wrong verdicts.
        totals: The sums of a window.
        shadowing: Whether the canary gets copies of requests; only then can there be a shadow disagreement.
        unreadable: Why pods could not be read; if any, every metric from the pods is an Error.
        queries: By name of a Query or of SQL its value, or why it has none.
        checks: By metric what the decisions service found, or why it found nothing.
        steps: How many windows a rollout has, among which the chance of a false verdict is divided.
        margin: Below how many times its limit a metric's upper bound must be for the metric to be Successful.
    """
    step, chances = StepTotals(totals), Chances.of(spec, steps, margin)
    results = []
    for metric in spec.metrics:
        if metric.type in UNBOUNDED:
            results.append(_query(metric, queries, step, chances))
        elif metric.type in DECISION_LOG:
            results.append(_check(metric, checks, step, chances))
        elif unreadable:
            results.append(not_measured(metric, unreadable[0]))
        elif _applies(metric, spec, step, shadowing=shadowing):
            results.append(_JUDGES[metric.type](metric, step, chances))
    return overall(results), tuple(results)


def _applies(metric: Metric, spec: Spec, step: StepTotals, *, shadowing: bool) -> bool:
    """Return whether a metric can be measured; a default one is left out if the contract marks no segments."""
    if metric.type == MetricType.SHADOW_DISAGREEMENT:
        return shadowing
    return metric.type != MetricType.SEGMENT_SHIFT or bool(step.segments or spec.analysis.metrics)


def overall(results: Sequence[MetricResult]) -> Verdict:
    """Return the worst verdict; without any result, Inconclusive."""
    found = {result.verdict for result in results} or {Verdict.INCONCLUSIVE}
    return next(verdict for verdict in _WORST_FIRST if verdict in found)


_WORST_FIRST = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.SUCCESSFUL)


def _graded(metric: Metric, chances: Chances, found: Measured) -> MetricResult:
    return graded(metric, found, margin=chances.margin, min_samples=chances.min_samples)


def _error_rate(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    outcomes, limit = step.outcomes("canary"), metric.effective_limit
    total, good = step.answers, outcomes.get("ok", 0.0)
    if total < _FEWEST_FOR_ERRORS:
        return too_few(metric, total, chances.min_samples)
    counts = {1.0: total - good, 0.0: good}
    kinds = ", ".join(f"{count:.0f} {name}" for name, count in sorted(outcomes.items()) if name != "ok" and count)
    return _graded(metric, chances, Measured(
        "error rate", (total - good) / total, total, step.answers,
        lower_bound(counts, 0.0, chances.by_step, bets_against(limit)), upper_bound(counts, 1.0, chances.missed),
        more=f" ({kinds})" if kinds else "",
    ))  # fmt: skip


def _latency(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    """Judge which share of the canary's answers is slower than the limit times the champion's p99 allows.

    A version fails by the upper bound of the champion's p99, a quantile of its own answers (Howard and Ramdas,
    Sequential estimation of quantiles, Bernoulli 28, 2022), so that a champion with few answers fails no version.
    """
    canary, champion = step.buckets("canary", "seconds"), step.buckets("stable", "seconds")
    total, few = count_of(canary), min(count_of(canary), count_of(champion))
    if few < chances.min_samples:
        return too_few(metric, few, chances.min_samples)
    own, reference, limit = quantile(canary, 0.99), quantile(champion, 0.99), metric.effective_limit
    radius = normal_radius(_SLOW_SHARE * (1 - _SLOW_SHARE) / count_of(champion), _SLOW_SHARE, chances.by_step / 2)
    longest = _slow_from(limit, quantile(champion, min(1.0, 1 - _SLOW_SHARE + radius)))
    threshold = _slow_from(limit, reference)
    surely_slow, slow = count_above(canary, longest), count_above(canary, threshold)
    lower = lower_bound(_of_total(surely_slow, total), 0.0, chances.by_step / 2, bets_against(_SLOW_SHARE))
    upper = upper_bound(_of_total(slow, total), 1.0, chances.missed)
    ratio = own / reference if reference else 1.0
    return _graded(metric, chances, Measured(
        "latency p99 ratio", ratio if own > threshold else min(ratio, limit), total, step.answers, lower, upper,
        more=(f" ({own * 1000:.1f} ms, champion {reference * 1000:.1f} ms; {slow / total:.2%} of them, {lower:.2%} to "
              f"{upper:.2%}, slower than {threshold * 1000:.1f} ms)"),
        bounded=_SLOW_SHARE, shown=ratio,
    ))  # fmt: skip


def _slow_from(limit: float, reference: float) -> float:
    return max(limit * reference, reference + LATENCY_SLACK_SECONDS)


def _of_total(count: float, total: float) -> dict[float, float]:
    return {1.0: count, 0.0: total - count}


def _psi(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    paired = step.paired and bool(step.scores)
    if paired:
        few = samples = sum(step.scores.values())
    else:
        champion, canary = histogram(step.buckets("stable", "score")), histogram(step.buckets("canary", "score"))
        few, samples = min(sum(champion), sum(canary)), sum(canary)
    if few < max(chances.min_samples, 1):
        return too_few(metric, few, chances.min_samples)
    found = stability.of_pairs(step.scores) if paired else stability.of_arms(champion, canary)
    scale = metric.effective_limit or 0.1
    below = normal_radius(found.variance, scale, chances.by_pairs if paired else chances.fallback)
    above = normal_radius(found.variance, scale, chances.missed)
    more = ""
    if paired:
        agreement = stability.rank_correlation(step.scores)
        more = f" (mean PD changed by {step.mean_score_change:+.4f}, rank correlation {agreement:.3f})"
    return _graded(metric, chances, Measured(
        "score PSI", found.index, samples, step.answers, max(0.0, found.index - below), found.index + above,
        paired=paired, more=more,
    ))  # fmt: skip


def _decision_shift(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    if step.paired:
        return _paired_shift(metric, step, chances)
    (stable_declined, stable_all), (canary_declined, canary_all) = step.declines("stable"), step.declines("canary")
    few = min(stable_all, canary_all)
    if few < max(chances.min_samples, 1):
        return too_few(metric, few, chances.min_samples)
    p, q = stable_declined / stable_all, canary_declined / canary_all
    variance = share_variance(stable_declined, stable_all) + share_variance(canary_declined, canary_all)
    shift, scale = abs(q - p), metric.effective_limit or 0.01
    return _graded(metric, chances, Measured(
        "decision shift", shift, canary_all, step.answers,
        max(0.0, shift - normal_radius(variance, scale, chances.fallback)),
        min(1.0, shift + normal_radius(variance, scale, chances.missed)),
        more=f" (declined {q:.3f}, champion {p:.3f})",
    ))  # fmt: skip


def _paired_shift(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    """Judge the shift in both directions; each may fail the version, and both must be small for it to pass."""
    changes = step.changes
    up, down = changes.directions, {-value: count for value, count in changes.directions.items()}
    lower = max(lower_bound(side, -1.0, chances.by_pairs / 2) for side in (up, down))
    upper = max(upper_bound(side, 1.0, chances.missed) for side in (up, down))
    return _graded(metric, chances, Measured(
        "decision shift", abs(changes.shift), changes.pairs, step.answers, max(0.0, lower), upper, paired=True,
        more=f" ({up[1.0]:.0f} from approve to decline, {up[-1.0]:.0f} from decline to approve)",
    ))  # fmt: skip


def _disagreement(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    pairs = step.changes.pairs
    different = pairs - step.changes.directions[0.0]
    return _share_of_pairs(metric, step, chances, "shadow disagreement", different, pairs)


def _reason_change(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    return _share_of_pairs(metric, step, chances, "share of changed principal reasons", *step.reasons)


def _share_of_pairs(metric: Metric, step: StepTotals, chances: Chances, name: str, count: float, pairs: float
                    ) -> MetricResult:  # fmt: skip
    if not pairs:
        return too_few(metric, 0.0, chances.min_samples)
    counts, bets = _of_total(count, pairs), bets_against(metric.effective_limit)
    lower, upper = lower_bound(counts, 0.0, chances.by_pairs, bets), upper_bound(counts, 1.0, chances.missed)
    return _graded(metric, chances, Measured(name, count / pairs, pairs, step.answers, lower, upper, paired=True))


def _segment_shift(metric: Metric, step: StepTotals, chances: Chances) -> MetricResult:
    """Judge by how much the decline rate rose in the segment that fares worst."""
    segments = step.segments
    if not segments:
        return too_few(metric, 0.0, chances.min_samples)
    chance = chances.by_segment(len(segments))
    found = {name: _segment(name, changes, step, chance, chances.missed) for name, changes in segments.items()}
    failed = max(found.values(), key=lambda measured: measured.lower)
    if failed.lower > metric.effective_limit:
        return _graded(metric, chances, failed)
    enough = min(_SEGMENT_SHARE * step.changes.pairs, max(measured.samples for measured in found.values()))
    large = [measured for measured in found.values() if measured.samples >= enough]
    worst = max(large, key=lambda measured: (measured.value > metric.effective_limit, measured.upper))
    return _graded(metric, chances, worst)


def _segment(name: str, changes: Changes, step: StepTotals, chance: float, missed: float) -> Measured:
    directions = changes.directions
    lower, upper = lower_bound(directions, -1.0, chance), upper_bound(directions, 1.0, missed)
    return Measured(f"decline rate of {name} rose by", changes.shift, changes.pairs, step.answers, lower, upper,
                    paired=True)  # fmt: skip


_JUDGES: dict[MetricType, Judge] = {
    MetricType.ERROR_RATE: _error_rate,
    MetricType.LATENCY_P99: _latency,
    MetricType.SCORE_PSI: _psi,
    MetricType.DECISION_SHIFT: _decision_shift,
    MetricType.SEGMENT_SHIFT: _segment_shift,
    MetricType.REASON_CHANGE: _reason_change,
    MetricType.SHADOW_DISAGREEMENT: _disagreement,
}


def _check(metric: Metric, checks: Mapping[Metric, CheckAnswer | str], step: StepTotals, chances: Chances
           ) -> MetricResult:  # fmt: skip
    answer = checks.get(metric, "the decisions service was not asked")
    if isinstance(answer, str):
        return not_measured(metric, answer)
    if answer.value is None or answer.lower is None or answer.upper is None:
        return of_query(metric, Verdict.INCONCLUSIVE, None, answer.samples, answer.message)
    return _graded(metric, chances, Measured(
        answer.name, answer.value, answer.samples, step.answers, answer.lower, answer.upper,
        more=f" ({answer.message})" if answer.message else "", unit=answer.unit,
    ))  # fmt: skip


def _query(metric: Metric, queries: Mapping[str, float | str], step: StepTotals, chances: Chances) -> MetricResult:
    value = queries.get(metric.display_name, "the query was not sent")
    if isinstance(value, str):
        return not_measured(metric, value)
    if math.isnan(value):
        return of_query(metric, Verdict.INCONCLUSIVE, None, step.answers, "the query returned no number")
    if value > metric.effective_limit:
        text = f"{value:g} > {metric.effective_limit:g}"
        return of_query(metric, Verdict.FAILED, value, step.answers, text)
    if step.answers < chances.min_samples:
        return too_few(metric, step.answers, chances.min_samples)
    text = f"{value:g} <= {metric.effective_limit:g}"
    return of_query(metric, Verdict.SUCCESSFUL, value, step.answers, text)
