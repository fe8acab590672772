"""The population stability index (PSI) of two distributions of scores, with how far chance moves it.

Both estimates subtract the index that two samples of one distribution have anyway. The variance is that of the delta
method, and at least that of the chi-square distribution which remains where both distributions are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PSI_BINS = 10


@dataclass(frozen=True)
class Stability:
    """An estimated index and the variance of the estimate."""

    index: float
    variance: float


def psi(expected: Sequence[float], actual: Sequence[float]) -> tuple[float, int]:
    """Return the population stability index of two histograms over the same bins, and the number of bins it used.

    Neighboring bins are merged until each holds a tenth of both together; a bin that is empty on one side counts as
    half an observation there.
    """
    p, q = _merged_shares(expected, actual, merge(expected, actual))
    return _index(p, q), len(p)


def of_arms(champion: Sequence[float], canary: Sequence[float]) -> Stability:
    """Estimate the index from two histograms of different applicants over the same bins; none of them is empty."""
    n, m = sum(champion), sum(canary)
    p, q = _merged_shares(champion, canary, merge(champion, canary))
    noise = (len(p) - 1) * (1 / n + 1 / m)
    by_canary, by_champion = _influences(p, q)
    variance = _variance(q, by_canary) / m + _variance(p, by_champion) / n
    return Stability(max(0.0, _index(p, q) - noise), max(variance, 2 * noise * (1 / n + 1 / m)))


def of_pairs(cells: Mapping[tuple[float, float], float]) -> Stability:
    """Estimate the index from the number of applicants by champion's and canary's bin.

    Most applicants stay in their bin, which moves neither histogram: that is why pairs say more than two arms.
    """
    edges = sorted({edge for cell in cells for edge in cell})
    at = {edge: number for number, edge in enumerate(edges)}
    champion, canary = [0.0] * len(edges), [0.0] * len(edges)
    for (one, other), count in cells.items():
        champion[at[one]] += count
        canary[at[other]] += count
    groups, total = merge(champion, canary), sum(champion)
    p, q = _merged_shares(champion, canary, groups)
    by_canary, by_champion = _influences(p, q)
    first = second = 0.0
    moved = [0.0] * len(p)
    for (one, other), count in cells.items():
        before, after = groups[at[one]], groups[at[other]]
        influence = by_canary[after] + by_champion[before]
        first, second = first + count * influence, second + count * influence**2
        if before != after:
            moved[before] += count / total
            moved[after] += count / total
    ratios = [2 * share / (one + other) for share, one, other in zip(moved, p, q, strict=True)]
    noise = sum(ratios) / total
    variance = (second / total - (first / total) ** 2) / total
    return Stability(max(0.0, _index(p, q) - noise), max(variance, 2 * sum(ratio**2 for ratio in ratios) / total**2))


def rank_correlation(cells: Mapping[tuple[float, float], float]) -> float:
    """Return Spearman's correlation of both models' ranks, by bins; 1 if one of them has all applicants in one bin."""
    champion, canary = (_ranks(cells, side) for side in (0, 1))
    total = sum(cells.values())
    pairs = [(champion[one] - total / 2, canary[other] - total / 2, count) for (one, other), count in cells.items()]
    covariance = sum(one * other * count for one, other, count in pairs)
    spread = math.sqrt(
        sum(one**2 * count for one, _, count in pairs) * sum(other**2 * count for _, other, count in pairs)
    )
    return covariance / spread if spread else 1.0


def _ranks(cells: Mapping[tuple[float, float], float], side: int) -> dict[float, float]:
    """Return the mean rank in each bin of one side."""
    counts: dict[float, float] = {}
    for cell, count in cells.items():
        counts[cell[side]] = counts.get(cell[side], 0.0) + count
    ranks, before = {}, 0.0
    for edge in sorted(counts):
        ranks[edge] = before + counts[edge] / 2
        before += counts[edge]
    return ranks


def merge(expected: Sequence[float], actual: Sequence[float]) -> list[int]:
    """Return each bin's group: neighbors together until a group holds a tenth of both histograms."""
    n, m = sum(expected), sum(actual)
    groups, group, held = [], 0, 0.0
    for e, a in zip(expected, actual, strict=True):
        groups.append(group)
        held += (e / n + a / m) / 2
        if held >= 1 / _PSI_BINS - 1e-9:
            group, held = group + 1, 0.0
    # What is left after the last full group is part of it.
    return [min(entry, max(group - 1, 0)) for entry in groups]


def _merged_shares(
    expected: Sequence[float], actual: Sequence[float], groups: Sequence[int]
) -> tuple[list[float], list[float]]:
    p, q = [0.0] * (groups[-1] + 1), [0.0] * (groups[-1] + 1)
    for group, e, a in zip(groups, expected, actual, strict=True):
        p[group] += e
        q[group] += a
    n, m = sum(p), sum(q)
    return [max(e, 0.5) / n for e in p], [max(a, 0.5) / m for a in q]


def _index(p: Sequence[float], q: Sequence[float]) -> float:
    return sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def _influences(p: Sequence[float], q: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the derivative of the index by the canary's and by the champion's share of each bin."""
    by_canary = [math.log(b / a) + 1 - a / b for a, b in zip(p, q, strict=True)]
    by_champion = [math.log(a / b) + 1 - b / a for a, b in zip(p, q, strict=True)]
    return by_canary, by_champion


def _variance(shares: Sequence[float], values: Sequence[float]) -> float:
    mean = sum(share * value for share, value in zip(shares, values, strict=True))
    return sum(share * (value - mean) ** 2 for share, value in zip(shares, values, strict=True))
