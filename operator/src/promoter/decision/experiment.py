"""What an experiment found, from what was counted.

Its bounds are those of the evidence, so that they hold however often somebody looked while it ran. What one arm did
with its own applicants is reported beside what pairs say of both models on the same ones.
"""

from __future__ import annotations

import math

from promoter.api.spec import Spec, Strategy
from promoter.api.status import Arm, ExperimentReport, Measurement, State
from promoter.decision import stability
from promoter.decision.evidence import lower_bound, normal_radius, share_variance, upper_bound
from promoter.decision.totals import Changes, StepTotals, count_of, histogram, quantile

# A report is kept in the history, which has ten of them: enough to see which groups fare worst.
SEGMENTS_REPORTED = 10
# That a bound is wrong, whenever one looks.
_CHANCE = 0.05
# The differences at which the bounds of a mean PD, a PSI and a decline rate are tightest: those that matter.
_PD_SCALE, _PSI_SCALE, _SHIFT_SCALE = 0.01, 0.1, 0.02


def completed(spec: Spec, state: State) -> bool:
    """Return whether the experiment with the desired version is over; with another strategy it may be rolled out."""
    known = state.completed_version is not None and state.completed_version == state.desired_version
    return known and spec.strategy == Strategy.EXPERIMENT


def report_of(
    step: StepTotals, *, champion_version: str, weight: int, started_at: float | None = None
) -> ExperimentReport:
    """Return the report of what was counted.

    Args:
        step: The totals of the experiment.
        champion_version: The stable version.
        weight: The challenger's share, in percent.
        started_at: When the experiment began, in seconds since 1970.
    """
    segments = _segments(step)
    return ExperimentReport(
        champion_version=champion_version,
        weight=weight,
        started_at=started_at,
        champion=_arm(step, "stable"),
        challenger=_arm(step, "canary"),
        measured=tuple(filter(None, (_decline_rate(step), _mean_pd(step), _psi(step), _error_rate(step)))),
        segments=tuple(segments[:SEGMENTS_REPORTED]),
        segments_left_out=max(0, len(segments) - SEGMENTS_REPORTED),
    )


def describe(report: ExperimentReport) -> str:
    """Return the report in one sentence."""
    answers = f"{report.challenger.answers} answers at {report.weight} %, {report.champion.answers} by the champion"
    return "; ".join([answers, *map(in_words, report.measured)])


def in_words(found: Measurement) -> str:
    """Return a measurement with its bounds."""
    over = f"over {found.samples} {'pairs' if found.paired else 'answers'}"
    return f"{found.name} {found.value:.4f} ({found.lower:.4f} to {found.upper:.4f}) {over}"


def _arm(step: StepTotals, arm: str) -> Arm:
    declined, decisions = step.declines(arm)
    p99 = quantile(step.buckets(arm, "seconds"), 0.99)
    return Arm(
        answers=int(step.outcomes(arm).get("ok", 0.0)),
        decline_rate=round(declined / decisions, 4) if decisions else None,
        p99_milliseconds=None if math.isnan(p99) else round(p99 * 1000, 2),
    )


def _decline_rate(step: StepTotals) -> Measurement | None:
    name = "change of the decline rate"
    if step.paired:
        return _shift(name, step.changes, _CHANCE)
    (stable_declined, stable_all), (canary_declined, canary_all) = step.declines("stable"), step.declines("canary")
    if not stable_all or not canary_all:
        return None
    change = canary_declined / canary_all - stable_declined / stable_all
    variance = share_variance(stable_declined, stable_all) + share_variance(canary_declined, canary_all)
    return _around(name, change, normal_radius(variance, _SHIFT_SCALE, _CHANCE), canary_all)


def _mean_pd(step: StepTotals) -> Measurement | None:
    pairs = sum(step.scores.values())
    if not pairs:
        return None
    change = step.mean_score_change
    variance = max(0.0, step.mean_squared_score_change - change**2) / pairs
    radius = normal_radius(variance, _PD_SCALE, _CHANCE)
    return _around("change of the mean PD", change, radius, pairs, paired=True)


def _psi(step: StepTotals) -> Measurement | None:
    paired = step.paired and bool(step.scores)
    if paired:
        found, samples = stability.of_pairs(step.scores), sum(step.scores.values())
    else:
        champion, canary = histogram(step.buckets("stable", "score")), histogram(step.buckets("canary", "score"))
        if not sum(champion) or not sum(canary):
            return None
        found, samples = stability.of_arms(champion, canary), count_of(step.buckets("canary", "score"))
    radius = normal_radius(found.variance, _PSI_SCALE, _CHANCE)
    return _measurement("score PSI", found.index, (max(0.0, found.index - radius), found.index + radius), samples,
                        paired=paired)  # fmt: skip


def _error_rate(step: StepTotals) -> Measurement | None:
    if not step.answers:
        return None
    good = step.outcomes("canary").get("ok", 0.0)
    counts = {1.0: step.answers - good, 0.0: good}
    bounds = lower_bound(counts, 0.0, _CHANCE / 2), upper_bound(counts, 1.0, _CHANCE / 2)
    return _measurement("error rate", (step.answers - good) / step.answers, bounds, step.answers)


def _segments(step: StepTotals) -> list[Measurement]:
    """Return by how much the decline rate rose in each segment, the largest first."""
    chance = _CHANCE / max(1, len(step.segments))
    found = [_shift(name, changes, chance) for name, changes in step.segments.items()]
    return sorted(found, key=lambda measured: measured.value, reverse=True)


def _shift(name: str, changes: Changes, chance: float) -> Measurement:
    directions = changes.directions
    bounds = lower_bound(directions, -1.0, chance / 2), upper_bound(directions, 1.0, chance / 2)
    return _measurement(name, changes.shift, bounds, changes.pairs, paired=True)


def _around(name: str, value: float, radius: float, samples: float, *, paired: bool = False) -> Measurement:
    return _measurement(name, value, (max(-1.0, value - radius), min(1.0, value + radius)), samples, paired=paired)


def _measurement(
    name: str, value: float, bounds: tuple[float, float], samples: float, *, paired: bool = False
) -> Measurement:
    lower, upper = bounds
    return Measurement(name=name, value=round(value, 5), lower=round(lower, 5), upper=round(upper, 5),
                       samples=int(samples), paired=paired)  # fmt: skip
