"""Distances of samples: what chance does to them, and what their bounds say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import beta

from decisions.drift.calibration import calibrate
from decisions.drift.distance import compare, jensen_shannon, psi, share_change, wilson
from decisions.drift.incomplete_beta import beta_cdf

REFERENCE = np.full(10, 2000.0)
LIMIT = 0.1


def tilted(strength: float) -> npt.NDArray[np.float64]:
    """Return ten shares that rise with the bin."""
    shares = np.exp(strength * np.linspace(-1, 1, 10))
    return np.asarray(shares / shares.sum())


def test_distances_are_those_of_their_definitions() -> None:
    ours, theirs = np.array([30_000.0, 50_000, 20_000]), np.array([40_000.0, 40_000, 20_000])
    assert psi(ours, theirs) == pytest.approx((-0.1) * np.log(0.75) + 0.1 * np.log(1.25), rel=1e-3)
    assert jensen_shannon(ours, theirs) == pytest.approx(jensenshannon(ours, theirs, base=2) ** 2, rel=1e-3)
    assert jensen_shannon(np.array([1e6, 0]), np.array([0, 1e6])) == pytest.approx(1, abs=1e-3)


def test_an_empty_bin_is_finite_and_one_that_is_empty_in_both_says_nothing() -> None:
    gained = psi(np.array([50.0, 50, 0]), np.array([500.0, 0, 500]))
    lost = psi(np.array([100.0, 0]), np.array([1e5, 5]))
    assert np.isfinite(gained)
    assert gained > 1
    assert lost < 0.001
    three, four = (np.array([30.0, 50, 20, *more]) for more in ([], [0]))
    assert psi(four, four[[1, 0, 2, 3]]) == pytest.approx(float(psi(three, three[[1, 0, 2]])), abs=1e-9)


def test_two_hundred_rows_of_the_same_applicants_are_no_drift() -> None:
    random = np.random.default_rng(1)
    samples = random.multinomial(50, np.full(10, 0.1), size=60).astype(np.float64)
    assert (psi(samples, REFERENCE) > LIMIT).mean() > 0.5, "what chance does to PSI in 50 rows"
    assert not any(compare(of, REFERENCE, 0.99).psi.lower > LIMIT for of in samples)


def test_the_lower_bound_is_above_the_truth_no_more_often_than_said() -> None:
    random, shares = np.random.default_rng(2), tilted(0.6)
    truth = float(((shares - 0.1) * np.log(shares / 0.1)).sum())
    bounds = [
        compare(random.multinomial(1000, shares).astype(np.float64), REFERENCE, 0.95).psi.lower for _ in range(60)
    ]
    assert sum(lower > truth for lower in bounds) <= 8, "5 % of 60 are 3; 9 and more have a chance of .4 %"


def test_a_real_shift_is_found_in_a_thousand_rows() -> None:
    random = np.random.default_rng(3)
    samples = random.multinomial(1000, tilted(1.0), size=10).astype(np.float64)
    assert all(compare(of, REFERENCE, 0.9995).psi.lower > LIMIT for of in samples)


def test_bounds_of_shares_are_newcombes() -> None:
    # Newcombe 1998, table II, example (a): 56/70 against 48/80.
    found = share_change(56, 70, 48, 80, 0.975)
    assert found.lower == pytest.approx(0.0524, abs=1e-4)
    assert found.upper == pytest.approx(0.3339, abs=1e-4)
    assert wilson(0, 10, 0.975)[0] == 0
    assert wilson(10, 10, 0.975)[1] == 1


@pytest.mark.parametrize("defaults", [0, 3, 500, 100_000])
@pytest.mark.parametrize("repaid", [0, 40, 10_000, 3_000_000])
def test_the_beta_distribution_is_scipys(defaults: int, repaid: int) -> None:
    for x in (0.0, 1e-6, 0.01, 0.2, 0.7, 0.999, 1.0):
        found, expected = beta_cdf(x, defaults + 0.5, repaid + 0.5), beta.cdf(x, defaults + 0.5, repaid + 0.5)
        assert found == pytest.approx(expected, abs=1e-8)


def test_lights_of_grades() -> None:
    lights = [calibrate("B", 1000, defaults, 0.05).light for defaults in (50, 64, 75)]
    assert lights == ["green", "yellow", "red"]
    assert not calibrate("B", 1000, 50, 0.05).too_cautious
    assert calibrate("B", 1000, 20, 0.05).too_cautious
