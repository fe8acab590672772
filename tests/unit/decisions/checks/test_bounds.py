"""Bounds of rates and estimates: known values, and that they hold at all looks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from decisions.checks.bounds import around, highest_rate, lowest_rate
from decisions.checks.model import Estimate


@given(trials=st.integers(1, 10**6), share=st.floats(0, 1), chance=st.floats(1e-6, 0.5))
def test_bounds_enclose_what_was_seen(trials: int, share: float, chance: float) -> None:
    events = round(share * trials)
    lower, upper = lowest_rate(trials, events, chance), highest_rate(trials, events, chance)
    assert 0 <= lower <= events / trials <= upper <= 1


def test_nothing_and_everything() -> None:
    assert lowest_rate(100, 0, 0.01) == 0
    assert highest_rate(100, 100, 0.01) == 1
    # A rate of which 100 of 100 have this chance is the bound of a single look.
    assert 0.93 < lowest_rate(100, 100, 0.01) < 0.01 ** (1 / 100)


def test_bounds_narrow_with_loans_and_widen_with_certainty() -> None:
    few, many = lowest_rate(100, 20, 0.01), lowest_rate(10_000, 2000, 0.01)
    assert few < many < 0.2
    assert many > 0.18, "about three standard errors of .004"
    assert lowest_rate(100, 20, 0.001) < few


def test_a_rate_is_seldom_outside_of_its_bounds_at_any_look() -> None:
    """Loans with different PDs, looked at at fifty moments: at most a twentieth of the runs may ever be wrong."""
    generator = np.random.default_rng(17)
    runs, loans, wrong = 100, 1000, 0
    looks = np.arange(20, loans + 1, 20)
    for _ in range(runs):
        pds = generator.beta(1, 9, loans)
        defaults, means = np.cumsum(generator.random(loans) < pds), np.cumsum(pds)
        wrong += any(lowest_rate(int(look), int(defaults[look - 1]), 0.05) > means[look - 1] / look for look in looks)
    assert wrong <= runs * 0.05


def test_estimates_get_wider_bounds_the_less_may_go_wrong() -> None:
    lower, upper = around(Estimate(0.1, 0.0004), 0.05, 0.001, 0.05)
    assert lower < 0.1 - 3 * 0.02
    assert 0.1 + 2 * 0.02 < upper < 0.1 + (0.1 - lower)
    assert around(Estimate(0.1, 0.0), 0.05, 0.01, 0.01) == (0.1, 0.1)
