"""Bounds that hold at every moment at which somebody looks, so that checks can be repeated while decisions come in."""

from __future__ import annotations

import math

from decisions.checks.model import Estimate

# By how much the log-odds of a default are supposed to be off; the best one depends on the true rate.
_TILTS = tuple(2.0**power for power in range(-5, 4))
# Halvings of the searched interval: bounds are exact to nine digits.
_HALVINGS = 30


def around(estimate: Estimate, scale: float, false_alarm: float, missed: float) -> tuple[float, float]:
    """Return a lower and an upper bound of what is estimated from decisions whose number grows.

    An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit
    theory and asymptotic confidence sequences, Annals of Statistics 52, 2024), as the operator uses for its own.

    Args:
        estimate: The value and its variance.
        scale: The difference at which the bounds are to be narrowest.
        false_alarm: The chance that the lower bound is ever above the truth.
        missed: The chance that the upper bound is ever below it.
    """
    return (
        estimate.value - _radius(estimate.variance, scale, false_alarm),
        estimate.value + _radius(estimate.variance, scale, missed),
    )


def _radius(variance: float, scale: float, chance: float) -> float:
    if variance <= 0:
        return 0.0
    both = variance + scale * scale
    return math.sqrt(variance * both / (scale * scale) * (math.log(both / variance) - 2 * math.log(chance)))


def lowest_rate(trials: int, events: int, chance: float) -> float:
    """Return a rate that the mean probability of the events is below, at any time, with at most this chance.

    The events may have different probabilities: the moment generating function of their number is at most that of as
    many events of their mean probability. So the mixture of exponential martingales (Howard, Ramdas, McAuliffe and
    Sekhon, Time-uniform Chernoff bounds via nonnegative supermartingales, Probability Surveys 17, 2020) is largest
    there, and Ville's inequality holds for it.
    """
    if not events:
        return 0.0
    refuted, possible = 0.0, events / trials
    for _ in range(_HALVINGS):
        middle = (refuted + possible) / 2
        if _log_capital(trials, events, middle) >= -math.log(chance):
            refuted = middle
        else:
            possible = middle
    return refuted


def highest_rate(trials: int, events: int, chance: float) -> float:
    """Return a rate that the mean probability of the events is above, at any time, with at most this chance."""
    return 1.0 - lowest_rate(trials, trials - events, chance)


def _log_capital(trials: int, events: int, rate: float) -> float:
    logs = [tilt * events - trials * math.log1p(rate * math.expm1(tilt)) for tilt in _TILTS]
    most = max(logs)
    return most + math.log(sum(math.exp(entry - most) for entry in logs) / len(logs))
