"""Ranking and accuracy of probabilities of default, from how many loans of each bin of the probability defaulted.

Arrays are [..., bins]: everything works on many samples at once. The bins are narrow (`bins.LOG_ODDS_WIDTH`), and loans
of one bin count as ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_SAMPLES = 400
_SEED = 20260417


@dataclass(frozen=True)
class Loans:
    """Loans by bin of the probability of default, each [bins].

    Attributes:
        probability: The mean probability of the bin's loans.
        loans: How many there are.
        defaults: How many of them defaulted; None if that is not known.
    """

    probability: Floats
    loans: Floats
    defaults: Floats | None = None


@dataclass(frozen=True)
class Interval:
    """A figure, and where it lies with 95 % probability."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Performance:
    """How well probabilities rank loans and meet the default rate; AUC, Gini and KS are None without both outcomes."""

    loans: int
    default_rate: Interval
    brier: Interval
    auc: Interval | None
    gini: Interval | None
    ks: Interval | None


def expected(loans: Loans) -> Performance:
    """Return what is to be expected of these loans if their probabilities of default are right.

    Values are expectations. The intervals are where the figures of such loans come out: they cover the chance of who
    applies and of who defaults, so that realized figures outside of them speak against the probabilities.
    """
    random = np.random.default_rng(_SEED)
    drawn = _drawn(loans.loans, random)
    defaults = random.binomial(drawn.astype(np.int64), loans.probability).astype(np.float64)
    mean = loans.loans * loans.probability
    return _performance(loans, (loans.loans, mean), (drawn, defaults))


def realized(loans: Loans) -> Performance:
    """Return the figures of loans whose outcomes are known, with bootstrap intervals."""
    assert loans.defaults is not None  # noqa: S101 - the caller has outcomes
    random = np.random.default_rng(_SEED)
    repaid = loans.loans - loans.defaults
    both = _drawn(np.concatenate([repaid, loans.defaults]), random)
    repaid_again, defaults = np.split(both, 2, axis=-1)
    return _performance(loans, (loans.loans, loans.defaults), (repaid_again + defaults, defaults))


def auc(loans: Floats, defaults: Floats) -> Floats:
    """Return the area under the ROC curve of loans and defaults by rising probability, [..., bins]."""
    repaid = loans - defaults
    below = np.cumsum(repaid, -1) - repaid / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((defaults * below).sum(-1) / (defaults.sum(-1) * repaid.sum(-1)))


def ks(loans: Floats, defaults: Floats) -> Floats:
    """Return the Kolmogorov-Smirnov distance between the probabilities of defaults and of repaid loans."""
    repaid = loans - defaults
    with np.errstate(invalid="ignore", divide="ignore"):
        ours = np.cumsum(defaults, -1) / defaults.sum(-1, keepdims=True)
        theirs = np.cumsum(repaid, -1) / repaid.sum(-1, keepdims=True)
    return np.asarray(np.abs(ours - theirs).max(-1))


def brier(loans: Floats, defaults: Floats, probability: Floats) -> Floats:
    """Return the mean squared difference between probability and outcome."""
    total = loans * probability**2 - 2 * defaults * probability + defaults
    return np.asarray(total.sum(-1) / loans.sum(-1))


def _performance(loans: Loans, value: tuple[Floats, Floats], samples: tuple[Floats, Floats]) -> Performance:
    def rate(of: tuple[Floats, Floats]) -> Floats:
        return np.asarray(of[1].sum(-1) / of[0].sum(-1))

    area = _ranked(auc(*value), auc(*samples))
    return Performance(
        loans=round(float(loans.loans.sum())),
        default_rate=_interval(rate(value), rate(samples)),
        brier=_interval(brier(*value, loans.probability), brier(*samples, loans.probability)),
        auc=area,
        gini=area and Interval(2 * area.value - 1, 2 * area.lower - 1, 2 * area.upper - 1),
        ks=_ranked(ks(*value), ks(*samples)),
    )


def _ranked(value: Floats, sampled: Floats) -> Interval | None:
    """Return the interval of a figure that only samples with both outcomes have."""
    known = sampled[np.isfinite(sampled)]
    return _interval(value, known) if np.isfinite(value) and known.size else None


def _interval(value: Floats, sampled: Floats) -> Interval:
    low, high = np.quantile(sampled, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def _drawn(counts: Floats, random: np.random.Generator) -> Floats:
    """Return as many rows drawn again, [samples, bins]."""
    return random.multinomial(round(float(counts.sum())), counts / counts.sum(), size=_SAMPLES).astype(np.float64)
