"""Bounds that hold at every moment at which somebody looks, computed from counts that only grow.

A mean is bounded by betting (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B
86, 2024): whoever bets a fixed fraction of their capital, at fair odds, that a value exceeds m, and whose values have a
mean of at most m, multiplies the capital by more than 1 / c with a chance of at most c, whenever they stop (Ville's
inequality). With fixed fractions the capital follows from how often each value occurred, so that neither an operator's
restart nor the number of looks changes a verdict. The capital is spread over several fractions, because the best one
depends on the true mean.

What is no mean of bounded values gets an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas, Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics 52, 2024), the same
normal mixture as in the always-valid p-values of Johari, Koomen, Pekelis and Walsh (Operations Research 70, 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

# How often each value occurred.
Counts = Mapping[float, float]
# The fraction of the capital that is lost if the least value occurs, and its share of the capital at the start.
Bet = tuple[float, float]

BETS: tuple[Bet, ...] = (
    (0.98, 0.3), (0.75, 0.15), (0.5, 0.2), (0.25, 0.15), (0.125, 0.1), (0.0625, 0.06), (0.03125, 0.04),
)  # fmt: skip
# Halvings of the searched interval: the bounds are exact to six digits and more.
_HALVINGS = 30


def bets_against(share: float) -> tuple[Bet, ...]:
    """Return the bets that a share is larger than this one: half of the capital expects twice as much."""
    expected = min(max(share / (1 - share), 1e-4), 0.98) if share < 1 else 0.98
    return ((expected, 0.5), *((fraction, weight / 2) for fraction, weight in BETS))


def log_capital(counts: Counts, least: float, mean: float, bets: Sequence[Bet] = BETS) -> float:
    """Return the logarithm of the capital of bets that the mean is larger than `mean`, which exceeds `least`."""
    room = mean - least
    logs = [
        math.log(weight)
        + sum(count * math.log1p(fraction * (value - mean) / room) for value, count in counts.items() if count)
        for fraction, weight in bets
    ]
    most = max(logs)
    return most + math.log(sum(math.exp(entry - most) for entry in logs))


def lower_bound(counts: Counts, least: float, chance: float, bets: Sequence[Bet] = BETS) -> float:
    """Return a bound that the mean is below at any time with at most this chance.

    Args:
        counts: How often each value occurred.
        least: The least value that can occur; the bound if nothing else did.
        chance: Between 0 and 1.
        bets: How the capital is spread.
    """
    total = sum(counts.values())
    mean = sum(value * count for value, count in counts.items()) / total if total else least
    if mean <= least:
        # Exactly the least: a little more from rounding would be above a limit of 0.
        return least
    wanted = -math.log(chance)
    refuted, possible = least, mean
    for _ in range(_HALVINGS):
        middle = (refuted + possible) / 2
        if middle > least and log_capital(counts, least, middle, bets) < wanted:
            possible = middle
        else:
            refuted = middle
    return refuted


def upper_bound(counts: Counts, greatest: float, chance: float, bets: Sequence[Bet] = BETS) -> float:
    """Return a bound that the mean is above at any time with at most this chance; `greatest` is the greatest value."""
    return -lower_bound({-value: count for value, count in counts.items()}, -greatest, chance, bets)


def normal_radius(variance: float, scale: float, chance: float) -> float:
    """Return how far an estimate is from the truth at any time, but for this chance.

    Args:
        variance: Of the estimate, itself estimated; it falls as samples are added.
        scale: The differences at which the radius is to be smallest.
        chance: Between 0 and 1, of a difference in either direction.
    """
    if variance <= 0:
        return 0.0
    both = variance + scale * scale
    return math.sqrt(variance * both / (scale * scale) * (math.log(both / variance) - 2 * math.log(chance)))


def share_variance(count: float, total: float) -> float:
    """Return the variance of a share; half an observation more on each side keeps it from being 0."""
    share = (count + 0.5) / (total + 1)
    return share * (1 - share) / total
