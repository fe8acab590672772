"""Verdicts on a canary from what was counted since its step began: numbers in, verdicts out.

A metric is Failed only if it exceeds the limit by more than chance explains for that many samples, and Successful only
if the measured value is within the limit. In between it is Inconclusive: more samples decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from promoter.api.spec import Metric, MetricType, Spec
from promoter.api.status import MetricResult, Verdict

# One-sided 99 %: a good canary is judged many times in a rollout.
_Z_99 = 2.326
# The hop alone changes latencies by a few milliseconds; smaller differences than this never fail.
LATENCY_SLACK_SECONDS = 0.02
# From this many requests on, an error rate far beyond the limit needs no more samples.
_MIN_SAMPLES_FOR_ERRORS = 10
_PSI_BINS = 10

Totals = Mapping[str, float]


@dataclass(frozen=True)
class StepTotals:
    """What was counted in one step, by what it means."""

    totals: Totals

    def outcomes(self, arm: str) -> dict[str, float]:
        """Return the number of requests by outcome."""
        return self._under(f"{arm}/outcome/")

    def answered(self, arm: str) -> float:
        """Return the number of requests an arm answered successfully."""
        return self.outcomes(arm).get("ok", 0.0)

    def buckets(self, arm: str, kind: str) -> list[tuple[float, float]]:
        """Return (upper bound, cumulative count) in increasing order."""
        return sorted((float(bound), count) for bound, count in self._under(f"{arm}/{kind}/").items())

    def declines(self, arm: str) -> tuple[float, float]:
        """Return the number of declines and the number of decisions."""
        decisions = self._under(f"{arm}/decision/")
        return decisions.get("decline", 0.0), sum(decisions.values())

    def pairs(self) -> tuple[float, float]:
        """Return the number of shadow pairs with different decisions, and the number of pairs."""
        pairs = self._under("pairs/")
        return pairs.get("different", 0.0), sum(pairs.values())

    def _under(self, prefix: str) -> dict[str, float]:
        return {key.removeprefix(prefix): value for key, value in self.totals.items() if key.startswith(prefix)}


def judge(
    spec: Spec, totals: Totals, *, shadowing: bool, unreadable: Sequence[str], queries: Mapping[str, float | str]
) -> tuple[Verdict, tuple[MetricResult, ...]]:
    """Judge every metric of a spec.

    Args:
        spec: The metrics and their limits.
        totals: The sums of a window.
        shadowing: Whether the canary gets copies of requests; only then can there be a shadow disagreement.
        unreadable: Why pods could not be read; if any, every metric from the pods is an Error.
        queries: By name of a Query its value, or why it has none.
    """
    step = StepTotals(totals)
    results = []
    for metric in spec.metrics:
        if metric.type == MetricType.SHADOW_DISAGREEMENT and not shadowing:
            continue
        if metric.type == MetricType.QUERY:
            results.append(_query(metric, queries, step, spec.analysis.min_samples))
        elif unreadable:
            results.append(_result(metric, Verdict.ERROR, None, 0, f"could not be measured: {unreadable[0]}"))
        else:
            results.append(_JUDGES[metric.type](metric, step, spec.analysis.min_samples))
    return overall(results), tuple(results)


def overall(results: Sequence[MetricResult]) -> Verdict:
    """Return the worst verdict; without any result, Inconclusive."""
    found = {result.verdict for result in results} or {Verdict.INCONCLUSIVE}
    return next(verdict for verdict in _WORST_FIRST if verdict in found)


_WORST_FIRST = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.SUCCESSFUL)


def quantile(buckets: Sequence[tuple[float, float]], q: float) -> float:
    """Return a quantile of cumulative buckets, interpolated as PromQL's histogram_quantile does; NaN when empty."""
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        return math.nan
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in buckets:
        if count >= q * total:
            if math.isinf(bound):
                return lower_bound
            return lower_bound + (bound - lower_bound) * (q * total - lower_count) / max(count - lower_count, 1e-12)
        lower_bound, lower_count = bound, count
    return lower_bound


def share_above(buckets: Sequence[tuple[float, float]], threshold: float) -> float:
    """Return the share of observations in buckets that lie entirely above a threshold."""
    total = buckets[-1][1] if buckets else 0.0
    reached = next((count for bound, count in buckets if bound >= threshold), total)
    return (total - reached) / total if total else 0.0


def psi(expected: Sequence[float], actual: Sequence[float]) -> tuple[float, int]:
    """Return the population stability index of two histograms over the same bins, and the number of bins it used.

    Neighboring bins are merged until each holds a tenth of both together; a bin that is empty on one side counts as
    half an observation there.
    """
    bins = _merge(expected, actual)
    n, m = sum(e for e, _ in bins), sum(a for _, a in bins)
    index = 0.0
    for e, a in bins:
        p, q = max(e, 0.5) / n, max(a, 0.5) / m
        index += (q - p) * math.log(q / p)
    return index, len(bins)


def _merge(expected: Sequence[float], actual: Sequence[float]) -> list[tuple[float, float]]:
    n, m = sum(expected), sum(actual)
    bins: list[tuple[float, float]] = []
    e = a = 0.0
    for more_e, more_a in zip(expected, actual, strict=True):
        e, a = e + more_e, a + more_a
        if (e / n + a / m) / 2 >= 1 / _PSI_BINS - 1e-9:
            bins.append((e, a))
            e = a = 0.0
    if e or a:
        last = bins.pop() if bins else (0.0, 0.0)
        bins.append((last[0] + e, last[1] + a))
    return bins


def lower_bound(count: float, total: float) -> float:
    """Return the lower bound of the Wilson score interval of a share."""
    if not count:
        # Exactly 0: rounding would leave a little more, which is above a limit of 0.
        return 0.0
    share, z2 = count / total, _Z_99 * _Z_99
    center = share + z2 / (2 * total)
    spread = _Z_99 * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, (center - spread) / (1 + z2 / total))


def _error_rate(metric: Metric, step: StepTotals, min_samples: int) -> MetricResult:
    outcomes = step.outcomes("canary")
    total = sum(outcomes.values())
    errors = total - outcomes.get("ok", 0.0)
    beyond_chance = total > 0 and lower_bound(errors, total) > metric.effective_limit
    if total < min_samples and not (total >= _MIN_SAMPLES_FOR_ERRORS and beyond_chance):
        return _too_few(metric, total, min_samples)
    rate = errors / total
    kinds = ", ".join(f"{count:.0f} {name}" for name, count in sorted(outcomes.items()) if name != "ok" and count)
    return _graded(metric, rate, total, beyond_chance=beyond_chance,
                   text=f"error rate {rate:.3f}", more=f" ({kinds})" if kinds else "")  # fmt: skip


def _latency(metric: Metric, step: StepTotals, min_samples: int) -> MetricResult:
    canary, champion = step.buckets("canary", "seconds"), step.buckets("stable", "seconds")
    few = min(_count(canary), _count(champion))
    if few < min_samples:
        return _too_few(metric, few, min_samples)
    own, reference = quantile(canary, 0.99), quantile(champion, 0.99)
    threshold = max(metric.effective_limit * reference, reference + LATENCY_SLACK_SECONDS)
    total = _count(canary)
    slower = own > threshold and lower_bound(share_above(canary, threshold) * total, total) > 0.01
    ratio = own / reference if reference else 1.0
    value = ratio if own > threshold else min(ratio, metric.effective_limit)
    return _graded(metric, value, total, beyond_chance=slower, text=f"latency p99 ratio {ratio:.2f}",
                   more=f" ({own * 1000:.1f} ms, champion {reference * 1000:.1f} ms)")  # fmt: skip


def _psi(metric: Metric, step: StepTotals, min_samples: int) -> MetricResult:
    champion, canary = _histogram(step.buckets("stable", "score")), _histogram(step.buckets("canary", "score"))
    n, m = sum(champion), sum(canary)
    if min(n, m) < min_samples:
        return _too_few(metric, min(n, m), min_samples)
    index, bins = psi(champion, canary)
    # The index of two samples of the same distribution: its mean, and its spread at 99 %.
    noise = (bins - 1) * (1 / n + 1 / m)
    spread = _Z_99 * math.sqrt(2 * max(bins - 1, 1)) * (1 / n + 1 / m)
    value = max(0.0, index - noise)
    return _graded(
        metric, value, m, beyond_chance=value - spread > metric.effective_limit, text=f"score PSI {value:.2f}"
    )


def _decision_shift(metric: Metric, step: StepTotals, min_samples: int) -> MetricResult:
    (stable_declined, stable_all), (canary_declined, canary_all) = step.declines("stable"), step.declines("canary")
    if min(stable_all, canary_all) < min_samples:
        return _too_few(metric, min(stable_all, canary_all), min_samples)
    p, q = stable_declined / stable_all, canary_declined / canary_all
    error = math.sqrt(p * (1 - p) / stable_all + q * (1 - q) / canary_all)
    shift = abs(q - p)
    return _graded(metric, shift, canary_all, beyond_chance=shift - _Z_99 * error > metric.effective_limit,
                   text=f"decision shift {shift:.3f}", more=f" (declined {q:.3f}, champion {p:.3f})")  # fmt: skip


def _disagreement(metric: Metric, step: StepTotals, min_samples: int) -> MetricResult:
    different, pairs = step.pairs()
    if pairs < min_samples:
        return _too_few(metric, pairs, min_samples)
    share = different / pairs
    beyond_chance = lower_bound(different, pairs) > metric.effective_limit
    return _graded(metric, share, pairs, beyond_chance=beyond_chance, text=f"shadow disagreement {share:.3f}")


_JUDGES: dict[MetricType, Callable[[Metric, StepTotals, int], MetricResult]] = {
    MetricType.ERROR_RATE: _error_rate,
    MetricType.LATENCY_P99: _latency,
    MetricType.SCORE_PSI: _psi,
    MetricType.DECISION_SHIFT: _decision_shift,
    MetricType.SHADOW_DISAGREEMENT: _disagreement,
}


def _query(metric: Metric, queries: Mapping[str, float | str], step: StepTotals, min_samples: int) -> MetricResult:
    samples = sum(step.outcomes("canary").values())
    value = queries.get(metric.display_name, "the query was not sent")
    if isinstance(value, str):
        return _result(metric, Verdict.ERROR, None, 0, f"could not be measured: {value}")
    if math.isnan(value):
        return _result(metric, Verdict.INCONCLUSIVE, None, samples, "the query returned no number")
    if value > metric.effective_limit:
        return _result(metric, Verdict.FAILED, value, samples, f"{value:g} > {metric.effective_limit:g}")
    if samples < min_samples:
        return _too_few(metric, samples, min_samples)
    return _result(metric, Verdict.SUCCESSFUL, value, samples, f"{value:g} <= {metric.effective_limit:g}")


def _graded(
    metric: Metric, value: float, samples: float, *, beyond_chance: bool, text: str, more: str = ""
) -> MetricResult:
    over = f" over {samples:.0f} requests{more}"
    if beyond_chance:
        return _result(metric, Verdict.FAILED, value, samples, f"{text} > {metric.effective_limit:.2f}{over}")
    if value > metric.effective_limit:
        message = f"{text} > {metric.effective_limit:.2f}{over}, which may be chance: more samples decide"
        return _result(metric, Verdict.INCONCLUSIVE, value, samples, message)
    return _result(metric, Verdict.SUCCESSFUL, value, samples, f"{text} <= {metric.effective_limit:.2f}{over}")


def _too_few(metric: Metric, samples: float, needed: int) -> MetricResult:
    return _result(metric, Verdict.INCONCLUSIVE, None, samples, f"{samples:.0f} of {needed} samples")


def _result(metric: Metric, verdict: Verdict, value: float | None, samples: float, text: str) -> MetricResult:
    message = text if metric.type != MetricType.QUERY else f"{metric.display_name}: {text}"
    if verdict in {Verdict.INCONCLUSIVE, Verdict.ERROR} and value is None and metric.type != MetricType.QUERY:
        message = f"{metric.display_name}: {text}"
    rounded = None if value is None else round(value, 4)
    return MetricResult(name=metric.display_name, verdict=verdict, value=rounded, limit=metric.effective_limit,
                        samples=int(samples), message=message)  # fmt: skip


def _count(buckets: Sequence[tuple[float, float]]) -> float:
    return buckets[-1][1] if buckets else 0.0


def _histogram(buckets: Sequence[tuple[float, float]]) -> list[float]:
    counts, before = [], 0.0
    for _, count in buckets:
        counts.append(count - before)
        before = count
    return counts
