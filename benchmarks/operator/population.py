"""Applicants of chance.py: what both models say of them, as probabilities of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from scorer.metrics import LATENCY_BUCKETS, SCORE_BUCKETS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

THRESHOLD = 0.35
BINS, TIMES = len(SCORE_BUCKETS) + 1, len(LATENCY_BUCKETS) + 1
# The groups of one feature that the contract marks, and the share of applicants in each.
GROUPS = np.array([0.5, 0.35, 0.15])
_APPLICANTS = 400_000


@dataclass(frozen=True)
class Version:
    """How a canary's version differs from the champion: by chance (`noise`, in log-odds), and by its decline rate.

    `errors` is the share of requests that it does not answer, `slower` the factor of its latencies.
    """

    noise: float = 0.1
    shift: float = 0.0
    errors: float = 0.001
    slower: float = 1.0
    psi: float | None = None


@dataclass(frozen=True)
class Population:
    """Cells of pairs with their probabilities; the champion's own cells are its bin and decision."""

    probability: Floats
    champion_bin: Integers
    canary_bin: Integers
    direction: Integers
    declines: Integers
    champion_probability: Floats
    latencies: Floats
    canary_latencies: Floats
    version: Version

    @classmethod
    def of(cls, version: Version) -> Self:
        """Draw many applicants once; the shift of the log-odds is the one with the wanted decline rate or PSI."""
        dice = np.random.default_rng(1)
        champion = dice.beta(1.2, 3.5, _APPLICANTS)
        noise = version.noise * dice.standard_normal(_APPLICANTS)
        shift = _log_odds_shift(champion, noise, version)
        canary = _moved(champion, noise + shift)
        bins, others = np.searchsorted(SCORE_BUCKETS, champion), np.searchsorted(SCORE_BUCKETS, canary)
        before, after = (champion >= THRESHOLD).astype(int), (canary >= THRESHOLD).astype(int)
        codes, counts = np.unique(((bins * BINS + others) * 2 + before) * 2 + after, return_counts=True)
        own = np.bincount(bins * 2 + before, minlength=2 * BINS)
        times = np.exp(np.log(0.004) + 0.5 * dice.standard_normal(_APPLICANTS))
        return cls(
            counts / _APPLICANTS, codes // 4 // BINS, codes // 4 % BINS, codes % 2 - codes // 2 % 2, codes % 2,
            own / _APPLICANTS, _times(times), _times(times * version.slower), version,
        )  # fmt: skip


def _times(seconds: Floats) -> Floats:
    return np.bincount(np.searchsorted(LATENCY_BUCKETS, seconds), minlength=TIMES) / len(seconds)


def _moved(probabilities: Floats, log_odds: Floats) -> Floats:
    odds = probabilities / (1 - probabilities) * np.exp(log_odds)
    return odds / (1 + odds)


def _log_odds_shift(champion: Floats, noise: Floats, version: Version) -> float:
    """Find the shift by bisection: decline rate and index rise with it."""
    low, high = 0.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        canary = _moved(champion, noise + middle)
        if version.psi is None:
            enough = (canary >= THRESHOLD).mean() - (champion >= THRESHOLD).mean() >= version.shift
        else:
            enough = _psi(champion, canary) >= version.psi
        low, high = (low, middle) if enough else (middle, high)
    return high if version.shift or version.psi else 0.0


def _psi(champion: Floats, canary: Floats) -> float:
    """Return the index over all bins; the operator merges neighbors, which can only lower it."""
    p, q = (np.bincount(np.searchsorted(SCORE_BUCKETS, scores), minlength=BINS) for scores in (champion, canary))
    return float(((q - p) / _APPLICANTS * np.log(q / p)).sum())
