import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.learning.calibration import calibrate, find_limits


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 3), st.floats(-1, 1), st.integers(0, 1000))
def test_calibration_undoes_a_known_distortion(slope: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, 20_000)
    target = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    fitted = calibrate((logit - shift) / slope, target)
    assert fitted.slope == pytest.approx(slope, rel=0.15)
    assert fitted.intercept == pytest.approx(shift, abs=0.15)


def test_an_inverted_ranking_is_calibrated_to_the_base_rate() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 200).astype(float)
    fitted = calibrate(-target + 0.01 * rng.random(200), target)
    assert fitted.slope == 0
    assert fitted.apply(np.zeros(1))[0] == pytest.approx(target.mean())


def test_the_floor_is_the_rate_at_which_the_safest_rows_would_as_likely_as_not_have_no_default() -> None:
    target = np.zeros(1_000)
    target[500:] = 1
    found = find_limits(np.arange(1_000.0), target)
    # 1 - .5 ** (1 / 500): Clopper and Pearson's bound without defaults, on either side.
    assert found.floor == pytest.approx(1 - 0.5 ** (1 / 500), rel=1e-2)
    assert found.ceiling == pytest.approx(0.5 ** (1 / 500), rel=1e-4)
    assert found.apply(np.array([1e-9, 0.5, 1 - 1e-9])).tolist() == [found.floor, 0.5, found.ceiling]


def test_defaults_among_the_safest_rows_raise_the_floor() -> None:
    target = np.zeros(1_000)
    target[[100, 300, *range(500, 1_000)]] = 1
    # The first 500 rows, with two defaults, are better evidence than the first 100 without any: .0069.
    assert find_limits(np.arange(1_000.0), target).floor == pytest.approx(2.67 / 500, rel=1e-2)


def test_rows_with_the_same_score_are_one_group() -> None:
    target = np.tile([0.0, 0.0, 0.0, 1.0], 250)
    sorted_target = np.sort(target)
    for outcome in (target, sorted_target):
        found = find_limits(np.zeros(1_000), outcome)
        assert (found.floor, found.ceiling) == (0.125, 0.625)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 400), st.floats(0, 1), st.floats(0, 5), st.integers(0, 1000))
def test_the_limits_are_on_either_side_of_the_default_rate(rows: int, share: float, signal: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random(rows) < share).astype(float)
    target[:2] = 0, 1
    found = find_limits(signal * target + rng.normal(size=rows), target)
    assert 0 < found.floor < target.mean() < found.ceiling < 1


def test_a_floor_from_elsewhere_counts_if_it_is_higher() -> None:
    target = np.repeat([0.0, 1.0], 50_000)
    logit = np.arange(100_000.0)
    assert find_limits(logit, target).floor < 0.0005
    assert find_limits(logit, target, minimum=0.0005).floor == 0.0005
    assert find_limits(logit, target, minimum=1e-9) == find_limits(logit, target)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_calibration_counts_rows_as_often_as_their_weights_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, 2_000)
    target = (rng.random(2_000) < 1 / (1 + np.exp(-logit))).astype(float)
    times = rng.integers(0, 4, 2_000)
    weighted = calibrate(logit, target, times.astype(float))
    repeated = calibrate(np.repeat(logit, times), np.repeat(target, times))
    assert weighted.slope == pytest.approx(repeated.slope, rel=1e-3)
    assert weighted.intercept == pytest.approx(repeated.intercept, abs=1e-3)


def test_an_inverted_ranking_of_weighted_rows_is_calibrated_to_their_base_rate() -> None:
    target, weight = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 3.0, 3.0])
    assert calibrate(-target, target, weight).apply(np.zeros(1))[0] == pytest.approx(0.75)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 400), st.floats(0.1, 9.0), st.integers(0, 1000))
def test_equal_weights_leave_the_limits_as_they_are(rows: int, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, rows).astype(float)
    target[:2] = 0, 1
    logit = target + rng.normal(size=rows)
    found, expected = find_limits(logit, target, np.full(rows, weight)), find_limits(logit, target)
    # The last of three digits differs if the rate lies between two of them.
    assert found.floor == pytest.approx(expected.floor, rel=0.01)
    assert 1 - found.ceiling == pytest.approx(1 - expected.ceiling, rel=0.01)


def test_rows_that_count_hardly_are_hardly_evidence_for_a_floor() -> None:
    """Of 500 rows without a default, every fifth has all the weight: the floor is the one that 100 rows support."""
    target, light = np.repeat([0.0, 1.0], 500), np.arange(1_000) % 5 != 0
    weight = np.where(light, 1e-5, 1.0)
    found = find_limits(np.arange(1_000.0), target, weight)
    assert found.floor == pytest.approx(1 - 0.5 ** (1 / 100), rel=0.02)
    weight[light] = 0
    assert find_limits(np.arange(1_000.0), target, weight).floor == pytest.approx(found.floor, rel=0.02)
