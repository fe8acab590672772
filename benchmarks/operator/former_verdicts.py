"""The verdicts that chance.py compares with: two arms, each look by itself at a one-sided confidence of 99 %.

The operator judged so before it had pairs and bounds that hold at all looks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from many_verdicts import (
    FAILED,
    INCONCLUSIVE,
    SUCCESSFUL,
    Booleans,
    Counted,
    answers,
    counts_above,
    declined,
    histograms,
    merged,
    quantiles,
    shares,
)
from population import Floats, Integers, Population

from promoter.api.spec import MetricType
from promoter.decision.chances import Chances
from promoter.decision.judge import LATENCY_SLACK_SECONDS

_Z = 2.326


def _graded(failed: Booleans, within: Booleans, enough: Booleans) -> Integers:
    found = np.where(failed, FAILED, np.where(within, SUCCESSFUL, INCONCLUSIVE))
    return np.where(enough, found, INCONCLUSIVE)


def _wilson(count: Floats, total: Floats) -> Floats:
    total = np.maximum(total, 1)
    share, z2 = count / total, _Z * _Z
    spread = _Z * np.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return np.where(count > 0, (share + z2 / (2 * total) - spread) / (1 + z2 / total), 0.0)


def _error_rate(limit: float, _: Population, counted: Counted, chances: Chances) -> Integers:
    total = answers(counted)
    beyond = _wilson(counted.errors, total) > limit
    enough = (total >= chances.min_samples) | ((total >= 10) & beyond)
    return _graded(beyond, counted.errors <= limit * total, enough)


def _latency(limit: float, _: Population, counted: Counted, chances: Chances) -> Integers:
    total, others = counted.canary_times.sum(axis=1), counted.champion_times.sum(axis=1)
    own, reference = quantiles(counted.canary_times, 0.99), quantiles(counted.champion_times, 0.99)
    threshold = np.maximum(limit * reference, reference + LATENCY_SLACK_SECONDS)
    slower = (own > threshold) & (_wilson(counts_above(counted.canary_times, threshold), total) > 0.01)
    return _graded(slower, own <= threshold, np.minimum(total, others) >= chances.min_samples)


def _score_psi(limit: float, population: Population, counted: Counted, chances: Chances) -> Integers:
    champion, canary = histograms(population, counted)
    n, m = np.maximum(champion.sum(axis=1), 1), np.maximum(canary.sum(axis=1), 1)
    enough = np.minimum(n, m) >= chances.min_samples
    verdicts, rows = np.full(len(n), INCONCLUSIVE), np.flatnonzero(enough)
    if not len(rows):
        return verdicts
    p, q, used = shares(champion[rows], canary[rows], merged(champion[rows], canary[rows]))
    freedom, both = used.sum(axis=1) - 1, 1 / n[rows] + 1 / m[rows]
    value = np.maximum(0.0, ((q - p) * np.log(q / p)).sum(axis=1) - freedom * both)
    beyond = value - _Z * np.sqrt(2 * np.maximum(freedom, 1)) * both > limit
    verdicts[rows] = _graded(beyond, value <= limit, np.full(len(rows), fill_value=True))
    return verdicts


def _decision_shift(limit: float, population: Population, counted: Counted, chances: Chances) -> Integers:
    declines, all_, canary_declines, canary_all = declined(population, counted)
    n, m = np.maximum(all_, 1), np.maximum(canary_all, 1)
    p, q = declines / n, canary_declines / m
    error, shift = np.sqrt(p * (1 - p) / n + q * (1 - q) / m), np.abs(q - p)
    return _graded(shift - _Z * error > limit, shift <= limit, np.minimum(all_, canary_all) >= chances.min_samples)


def _none(_: float, __: Population, counted: Counted, ___: Chances) -> Integers:
    return np.full(len(counted.errors), SUCCESSFUL)


FORMER_JUDGES: dict[MetricType, Callable[[float, Population, Counted, Chances], Integers]] = {
    MetricType.ERROR_RATE: _error_rate,
    MetricType.LATENCY_P99: _latency,
    MetricType.SCORE_PSI: _score_psi,
    MetricType.DECISION_SHIFT: _decision_shift,
    MetricType.SEGMENT_SHIFT: _none,
}
