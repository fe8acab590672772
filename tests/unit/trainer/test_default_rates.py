"""Observed default rates and their Jeffreys intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from trainer.evaluation.default_rates import Rate, outcomes


@pytest.mark.parametrize(
    ("rows", "defaults", "low", "high"),
    [
        # As published for 10 and 50 rows by Brown, Cai and DasGupta (2001) and by R's DescTools and binom.
        (10, 5, 0.2235287, 0.7764713),
        (10, 0, 0.0, 0.2171961),
        (10, 10, 0.7828039, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_jeffreys_intervals_have_their_known_ends(rows: int, defaults: int, low: float, high: float) -> None:
    assert Rate(rows, defaults, rows).interval == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("rows", [50, 200, 1_000])
def test_the_interval_covers_true_rates_as_often_as_it_says(rows: int) -> None:
    """Computed from all outcomes, not drawn; the mean over rates, since discrete data make it oscillate."""
    counts = np.arange(rows + 1)
    low, high = np.array([Rate(rows, int(defaults), rows).interval for defaults in counts]).T
    coverage = [
        binom.pmf(counts, rows, truth)[(low <= truth) & (truth <= high)].sum() for truth in np.linspace(0.01, 0.5, 99)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)


@given(st.integers(1, 10_000), st.data())
def test_the_interval_contains_the_observed_rate(rows: int, data: st.DataObject) -> None:
    rate = Rate(rows, data.draw(st.integers(0, rows)), rows)
    low, high = rate.interval
    assert rate.value is not None
    assert 0 <= low <= rate.value <= high <= 1
    assert low < high


def test_no_rows_have_no_rate() -> None:
    assert Rate(0, 0, 0).value is None


def test_outcomes_are_those_of_the_chosen_rows() -> None:
    target = np.array([1.0, 0.0, 1.0, 1.0])
    assert outcomes(target, np.array([True, True, True, False])) == Rate(3, 2, 3)


def test_weighted_outcomes_are_those_of_as_many_rows_as_would_tell_as_much() -> None:
    target, weight = np.array([1.0, 0.0, 0.0, 1.0]), np.array([1.0, 3.0, 0.0, 9.0])
    rate = outcomes(target, np.array([True, True, True, False]), weight)
    # A row of weight 0 is none; (1 + 3)^2 / (1 + 9) = 1.6.
    assert rate.rows == 2
    assert (rate.value or 0, rate.effective_rows) == pytest.approx((0.25, 1.6))
    assert outcomes(target, target == 0, np.array([1.0, 0.0, 0.0, 1.0])) == Rate(0, 0, 0)


@given(st.integers(1, 100), st.integers(0, 10**6), st.floats(0.01, 100))
def test_equal_weights_change_nothing(rows: int, seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    target, chosen = rng.integers(0, 2, rows).astype(np.float64), rng.random(rows) < 0.5
    plain, weighted = outcomes(target, chosen), outcomes(target, chosen, np.full(rows, weight))
    assert weighted.rows == plain.rows
    assert weighted.interval == pytest.approx(plain.interval)


def test_the_interval_of_unequal_weights_covers_the_true_rate() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2_000):
        target, weight = (rng.random(300) < 0.1).astype(np.float64), rng.choice([1.0, 5.0], 300)
        low, high = outcomes(target, np.ones(300, dtype=bool), weight).interval
        hits += low <= 0.1 <= high
    assert hits / 2_000 == pytest.approx(0.95, abs=0.02)
