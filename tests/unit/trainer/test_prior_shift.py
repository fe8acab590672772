import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from trainer.learning.prior_shift import calibrate_model, odds_factor, shift_to_rate


def sample(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, outcomes that they predict well but too low, and weights."""
    rng = np.random.default_rng(seed)
    score = rng.normal(-1.5, 1.5, rows)
    target = (rng.random(rows) < expit(score + 0.5)).astype(float)
    target[:2] = 0, 1
    return score, target, rng.integers(0, 4, rows).astype(float) + 0.01


@pytest.mark.parametrize(
    ("setting", "weight", "factor"),
    [(3.0, None, 3.0), ("balanced", None, 4.0), ("balanced", [2.0, 1.0, 1.0, 1.0, 1.0], 2.0)],
)
def test_balanced_gives_both_outcomes_the_same_weight(
    setting: float, weight: list[float] | None, factor: float
) -> None:
    target = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    assert odds_factor(setting, target, None if weight is None else np.array(weight)) == pytest.approx(factor)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.9), st.booleans(), st.integers(0, 10**6))
def test_the_mean_probability_is_the_default_rate(rate: float, weighted: bool, seed: int) -> None:
    score, target, weight = sample(400, seed)
    given_weight = weight if weighted else None
    found = calibrate_model(score, target, given_weight, pd_floor=0.0, default_rate=rate)
    assert np.average(found.apply(score), weights=given_weight) == pytest.approx(rate, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.4), st.floats(0, 0.99), st.integers(0, 10**6))
def test_the_floor_counts_after_the_shift_and_the_mean_is_still_the_rate(rate: float, part: float, seed: int) -> None:
    score, target, _ = sample(400, seed)
    found = calibrate_model(score, target, pd_floor=rate * part, default_rate=rate)
    assert found.limits.floor >= rate * part
    assert found.limits.floor < found.limits.ceiling
    assert found.apply(score).mean() == pytest.approx(rate, abs=1e-9)


def test_the_limits_move_as_far_as_the_probabilities() -> None:
    score, target, _ = sample(2_000, 0)
    own = calibrate_model(score, target, pd_floor=0.0, default_rate=None)
    moved = calibrate_model(score, target, pd_floor=0.0, default_rate=0.04)
    assert own.shift == 0
    assert moved.shift < -1
    for before, after in ((own.limits.floor, moved.limits.floor), (own.limits.ceiling, moved.limits.ceiling)):
        assert logit(after) - logit(before) == pytest.approx(moved.shift)
    assert moved.calibration.slope == own.calibration.slope


def test_the_shift_can_be_taken_back_exactly_and_keeps_the_ranking() -> None:
    score, target, _ = sample(2_000, 1)
    own = calibrate_model(score, target, pd_floor=0.0, default_rate=None)
    moved = calibrate_model(score, target, pd_floor=0.0, default_rate=0.04)
    assert moved.before_shift(moved.apply(score)) == pytest.approx(own.apply(score))
    assert (np.argsort(moved.apply(score), kind="stable") == np.argsort(own.apply(score), kind="stable")).all()


@pytest.mark.parametrize("rate", [1e-4, 0.5, 0.999])
def test_rows_that_all_have_the_same_probability_get_the_rate_itself(rate: float) -> None:
    shift = shift_to_rate(np.full(10, 0.2), None, default_rate=rate)
    assert expit(logit(0.2) + shift) == pytest.approx(rate)


def test_a_floor_far_above_most_probabilities_leaves_the_rest_to_reach_the_rate() -> None:
    probability = np.array([1e-6, 1e-6, 1e-6, 0.5])
    shift = shift_to_rate(probability, None, default_rate=0.04, pd_floor=0.039)
    assert np.maximum(expit(logit(probability) + shift), 0.039).mean() == pytest.approx(0.04)
