"""The operator's verdicts on thousands of rollouts at once: promoter.decision.judge with arrays for its numbers.

chance.py compares them with the operator's own verdicts on a sample of what it simulates, and stops if one differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt
from population import BINS, GROUPS, TIMES, Floats, Integers, Population

from promoter.api.spec import MetricType
from promoter.decision.chances import Chances
from promoter.decision.evidence import BETS, Bet, bets_against
from promoter.decision.judge import LATENCY_SLACK_SECONDS
from scorer.metrics import LATENCY_BUCKETS

Booleans = npt.NDArray[np.bool_]
SUCCESSFUL, INCONCLUSIVE, FAILED = 0, 1, 2
_SLOW, _FEWEST_FOR_ERRORS, _GROUP_SHARE = 0.01, 10, 0.05
_EDGES = np.array([0.0, *LATENCY_BUCKETS])


@dataclass
class Counted:
    """What was counted in rollouts, one row each: in this step, and of pairs (`pair_`) in all steps so far."""

    errors: Floats
    cells: Floats
    champion: Floats
    champion_times: Floats
    canary_times: Floats
    pair_cells: Floats
    pair_groups: Floats

    @classmethod
    def nothing(cls, rollouts: int, cells: int) -> Self:
        """Return zeros."""
        shapes = ((), (cells,), (2 * BINS,), (TIMES,), (TIMES,), (cells,), (len(GROUPS), 3))
        return cls(*(np.zeros((rollouts, *shape)) for shape in shapes))

    def of(self, rows: Integers) -> Counted:
        """Return some of the rollouts."""
        return Counted(*(getattr(self, field.name)[rows] for field in fields(self)))

    def next_step(self, rows: Integers) -> None:
        """Begin a step: all but pairs is counted anew."""
        for field in fields(self):
            if not field.name.startswith("pair_"):
                getattr(self, field.name)[rows] = 0.0


Judge = Callable[[float, Population, Counted, Chances], Integers]


def _capital_reaches(counts: Sequence[tuple[float, Floats]], least: float, mean: float, chance: float,
                     bets: Sequence[Bet] = BETS) -> Booleans:  # fmt: skip
    if mean <= least:
        return sum((count for value, count in counts if value > least), np.zeros_like(counts[0][1])) > 0
    room = mean - least
    logs = [
        math.log(weight) + sum(count * math.log1p(fraction * (value - mean) / room) for value, count in counts)
        for fraction, weight in bets
    ]
    return np.logaddexp.reduce(logs, axis=0) >= -math.log(chance)


def _above(counts: Sequence[tuple[float, Floats]], least: float, mean: float, chance: float,
           bets: Sequence[Bet] = BETS) -> Booleans:  # fmt: skip
    """Return whether the lower bound is above a mean."""
    return _capital_reaches(counts, least, mean, chance, bets)


def _below(counts: Sequence[tuple[float, Floats]], greatest: float, mean: float, chance: float) -> Booleans:
    """Return whether the upper bound is below a mean."""
    return _capital_reaches([(-value, count) for value, count in counts], -greatest, -mean, chance)


def _graded(failed: Booleans, within: Booleans, equivalent: Booleans, enough: Booleans) -> Integers:
    passed = within & equivalent & enough & ~failed
    return np.where(failed, FAILED, np.where(passed, SUCCESSFUL, INCONCLUSIVE))


def answers(counted: Counted) -> Floats:
    """Return the canary's answers in this step, good or not."""
    return counted.errors + counted.cells.sum(axis=1)


def _of_total(count: Floats, total: Floats) -> list[tuple[float, Floats]]:
    return [(1.0, count), (0.0, total - count)]


def _error_rate(limit: float, _: Population, counted: Counted, chances: Chances) -> Integers:
    total = answers(counted)
    counts = _of_total(counted.errors, total)
    return _graded(
        _above(counts, 0.0, limit, chances.by_step, bets_against(limit)) & (total >= _FEWEST_FOR_ERRORS),
        counted.errors <= limit * total,
        _below(counts, 1.0, chances.margin * limit, chances.missed),
        total >= chances.min_samples,
    )


def quantiles(buckets: Floats, q: Floats | float) -> Floats:
    """Return a quantile of each histogram, interpolated in its bucket."""
    cumulative = buckets.cumsum(axis=1)
    rank = np.broadcast_to(q, len(buckets)) * cumulative[:, -1]
    at = (cumulative < rank[:, None]).sum(axis=1).clip(max=TIMES - 1)
    rows, before = np.arange(len(buckets)), np.concatenate([np.zeros((len(buckets), 1)), cumulative], axis=1)
    inside = (rank - before[rows, at]) / np.maximum(buckets[rows, at], 1e-12)
    low = _EDGES[at]
    # Nobody knows how long the slowest took: then it is the last bucket's lower edge.
    return low + (np.append(_EDGES, _EDGES[-1])[at + 1] - low) * inside


def counts_above(buckets: Floats, threshold: Floats) -> Floats:
    """Return the number of observations in buckets entirely above a threshold, by row."""
    return (buckets * (threshold[:, None] <= _EDGES)).sum(axis=1)


def _latency(limit: float, _: Population, counted: Counted, chances: Chances) -> Integers:
    total, others = counted.canary_times.sum(axis=1), counted.champion_times.sum(axis=1)
    own, reference = quantiles(counted.canary_times, 0.99), quantiles(counted.champion_times, 0.99)
    radius = radii(_SLOW * (1 - _SLOW) / np.maximum(others, 1), _SLOW, chances.by_step / 2)
    longest = _slow_from(limit, quantiles(counted.champion_times, np.minimum(1.0, 1 - _SLOW + radius)))
    threshold, enough = _slow_from(limit, reference), np.minimum(total, others) >= chances.min_samples
    slow = counts_above(counted.canary_times, threshold)
    surely = _of_total(counts_above(counted.canary_times, longest), total)
    return _graded(
        _above(surely, 0.0, _SLOW, chances.by_step / 2, bets_against(_SLOW)) & enough,
        own <= threshold,
        _below(_of_total(slow, total), 1.0, chances.margin * _SLOW, chances.missed),
        enough,
    )


def _slow_from(limit: float, reference: Floats) -> Floats:
    return np.maximum(limit * reference, reference + LATENCY_SLACK_SECONDS)


def radii(variance: Floats, scale: float, chance: float) -> Floats:
    """Return promoter.decision.evidence.normal_radius for each variance."""
    both = variance + scale * scale
    positive = np.maximum(variance, 1e-300)
    return np.sqrt(positive * both / scale**2 * (np.log(both / positive) - 2 * math.log(chance)))


def _decision_shift(limit: float, population: Population, counted: Counted, chances: Chances) -> Integers:
    if not counted.pair_cells.any():
        return _shift_of_arms(limit, population, counted, chances)
    pairs = counted.pair_cells.sum(axis=1)
    up, down = (counted.pair_cells[:, population.direction == side].sum(axis=1) for side in (1, -1))
    sides = [[(1.0, up), (-1.0, down), (0.0, pairs - up - down)], [(1.0, down), (-1.0, up), (0.0, pairs - up - down)]]
    chance = chances.by_pairs / 2
    return _graded(
        _above(sides[0], -1.0, limit, chance) | _above(sides[1], -1.0, limit, chance),
        np.abs(up - down) <= limit * pairs,
        np.logical_and(*(_below(side, 1.0, chances.margin * limit, chances.missed) for side in sides)),
        answers(counted) >= chances.min_samples,
    )


def declined(population: Population, counted: Counted) -> tuple[Floats, Floats, Floats, Floats]:
    """Return declines and decisions of the champion and of the canary in this step."""
    return (counted.champion[:, 1::2].sum(axis=1), counted.champion.sum(axis=1),
            counted.cells[:, population.declines == 1].sum(axis=1), counted.cells.sum(axis=1))  # fmt: skip


def _shift_of_arms(limit: float, population: Population, counted: Counted, chances: Chances) -> Integers:
    declines, all_, canary_declines, canary_all = declined(population, counted)
    n, m = np.maximum(all_, 1), np.maximum(canary_all, 1)
    shift, variance = np.abs(canary_declines / m - declines / n), np.zeros(len(n))
    for count, total in ((declines, n), (canary_declines, m)):
        share = (count + 0.5) / (total + 1)
        variance += share * (1 - share) / total
    enough = np.minimum(all_, canary_all) >= chances.min_samples
    return _graded(
        (shift - radii(variance, limit, chances.fallback) > limit) & enough,
        shift <= limit,
        shift + radii(variance, limit, chances.missed) < chances.margin * limit,
        enough,
    )


def histograms(population: Population, counted: Counted) -> tuple[Floats, Floats]:
    """Return the arms' score histograms in this step."""
    champion = counted.champion[:, ::2] + counted.champion[:, 1::2]
    return champion, counted.cells @ _member(population.canary_bin)


def _member(bins: Integers) -> Floats:
    return np.eye(BINS)[bins]


def merged(champion: Floats, canary: Floats) -> Integers:
    """Return each bin's group by row, as promoter.decision.stability.merge does."""
    held_of = (champion / champion.sum(axis=1, keepdims=True) + canary / canary.sum(axis=1, keepdims=True)) / 2
    groups, group, held = np.zeros(champion.shape, int), np.zeros(len(champion), int), np.zeros(len(champion))
    for column in range(BINS):
        groups[:, column] = group
        held = held + held_of[:, column]
        full = held >= 0.1 - 1e-9
        group, held = group + full, np.where(full, 0.0, held)
    return np.minimum(groups, np.maximum(group - 1, 0)[:, None])


def grouped(values: Floats, groups: Integers) -> Floats:
    """Return the sums of a histogram's groups, ten at most; 0 for groups that a row lacks."""
    return np.stack([(values * (groups == group)).sum(axis=1) for group in range(10)], axis=1)


def shares(champion: Floats, canary: Floats, groups: Integers) -> tuple[Floats, Floats, Booleans]:
    """Return the shares of the groups on both sides, and which groups there are."""
    used = np.arange(10) <= groups[:, -1:]
    found = []
    for side in (champion, canary):
        sums = grouped(side, groups)
        found.append(np.where(used, np.maximum(sums, 0.5) / sums.sum(axis=1, keepdims=True), 1.0))
    return found[0], found[1], used


def _score_psi(limit: float, population: Population, counted: Counted, chances: Chances) -> Integers:
    paired = counted.pair_cells.any()
    if paired:
        champion, canary = (counted.pair_cells @ _member(bins) for bins in (
            population.champion_bin, population.canary_bin))  # fmt: skip
    else:
        champion, canary = histograms(population, counted)
    n, m = champion.sum(axis=1), canary.sum(axis=1)
    enough = np.minimum(n, m) >= max(chances.min_samples, 1)
    verdicts = np.full(len(n), INCONCLUSIVE)
    rows = np.flatnonzero(enough)
    if not len(rows):
        return verdicts
    few = champion[rows], canary[rows]
    cells = counted.pair_cells[rows] if paired else None
    index, variance = _stability(population, *few, cells)
    chance = chances.by_pairs if paired else chances.fallback
    verdicts[rows] = _graded(
        np.maximum(0.0, index - radii(variance, limit, chance)) > limit,
        index <= limit,
        index + radii(variance, limit, chances.missed) < chances.margin * limit,
        answers(counted)[rows] >= chances.min_samples,
    )
    return verdicts


def _stability(population: Population, champion: Floats, canary: Floats, cells: Floats | None) -> tuple[Floats, Floats]:
    groups = merged(champion, canary)
    p, q, used = shares(champion, canary, groups)
    index = ((q - p) * np.log(q / p)).sum(axis=1)
    by_canary, by_champion = np.log(q / p) + 1 - p / q, np.log(p / q) + 1 - q / p
    if cells is None:
        n, m = champion.sum(axis=1), canary.sum(axis=1)
        noise = (used.sum(axis=1) - 1) * (1 / n + 1 / m)
        variance = _spread(np.where(used, q, 0), by_canary) / m + _spread(np.where(used, p, 0), by_champion) / n
        return np.maximum(0.0, index - noise), np.maximum(variance, 2 * noise * (1 / n + 1 / m))
    total, rows = cells.sum(axis=1), np.arange(len(cells))[:, None]
    before, after = groups[:, population.champion_bin], groups[:, population.canary_bin]
    influence = by_canary[rows, after] + by_champion[rows, before]
    mean = (cells * influence).sum(axis=1) / total
    variance = ((cells * influence**2).sum(axis=1) / total - mean**2) / total
    moving = cells * (before != after) / total[:, None]
    moved = np.stack([(moving * ((before == group) ^ (after == group))).sum(axis=1) for group in range(10)], axis=1)
    ratios = np.where(used, 2 * moved / (p + q), 0.0)
    noise = ratios.sum(axis=1) / total
    return np.maximum(0.0, index - noise), np.maximum(variance, 2 * (ratios**2).sum(axis=1) / total**2)


def _spread(weights: Floats, values: Floats) -> Floats:
    mean = (weights * values).sum(axis=1, keepdims=True)
    return (weights * (values - mean) ** 2).sum(axis=1)


def _segment_shift(limit: float, _: Population, counted: Counted, chances: Chances) -> Integers:
    rollouts = len(counted.errors)
    if not counted.pair_cells.any():
        return np.full(rollouts, SUCCESSFUL)
    failed, passed = np.zeros(rollouts, bool), np.ones(rollouts, bool)
    pairs = counted.pair_groups.sum(axis=(1, 2))
    chance = chances.by_segment(len(GROUPS))
    for group in range(len(GROUPS)):
        down, same, up = counted.pair_groups[:, group].T
        sides, own = [(1.0, up), (-1.0, down), (0.0, same)], down + same + up
        failed |= _above(sides, -1.0, limit, chance)
        good = (up - down <= limit * own) & _below(sides, 1.0, chances.margin * limit, chances.missed)
        passed &= good | (own < _GROUP_SHARE * pairs)
    return _graded(failed, passed, passed, answers(counted) >= chances.min_samples)


JUDGES: dict[MetricType, Judge] = {
    MetricType.ERROR_RATE: _error_rate,
    MetricType.LATENCY_P99: _latency,
    MetricType.SCORE_PSI: _score_psi,
    MetricType.DECISION_SHIFT: _decision_shift,
    MetricType.SEGMENT_SHIFT: _segment_shift,
}
