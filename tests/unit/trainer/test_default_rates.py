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
    assert Rate(rows, defaults).interval == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("rows", [50, 200, 1_000])
def test_the_interval_covers_true_rates_as_often_as_it_says(rows: int) -> None:
    """Computed from all outcomes, not drawn; the mean over rates, since discrete data make it oscillate."""
    counts = np.arange(rows + 1)
    low, high = np.array([Rate(rows, int(defaults)).interval for defaults in counts]).T
    coverage = [
        binom.pmf(counts, rows, truth)[(low <= truth) & (truth <= high)].sum() for truth in np.linspace(0.01, 0.5, 99)
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)


@given(st.integers(1, 10_000), st.data())
def test_the_interval_contains_the_observed_rate(rows: int, data: st.DataObject) -> None:
    rate = Rate(rows, data.draw(st.integers(0, rows)))
    low, high = rate.interval
    assert rate.value is not None
    assert 0 <= low <= rate.value <= high <= 1
    assert low < high


def test_no_rows_have_no_rate() -> None:
    assert Rate(0, 0).value is None


def test_outcomes_are_those_of_the_chosen_rows() -> None:
    target = np.array([1.0, 0.0, 1.0, 1.0])
    assert outcomes(target, np.array([True, True, True, False])) == Rate(3, 2)
