import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from trainer.evaluation.comparison import compare_auc
from trainer.evaluation.metrics import (
    calibration_bins,
    decision_threshold,
    expected_calibration_error,
    measure,
    weighted_auc,
)
from trainer.learning.calibration import calibrate

ROWS = st.integers(min_value=4, max_value=200)


def sample(rows: int, seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, rows).astype(float)
    target[:2] = 0, 1
    score = rng.random(rows)
    return target, score.round(1) if ties else score


@given(ROWS, st.integers(0, 10**6), st.booleans())
def test_weighted_auc_is_scikit_learns(rows: int, seed: int, ties: bool) -> None:
    target, score = sample(rows, seed, ties=ties)
    weight = np.random.default_rng(seed).integers(1, 4, rows).astype(float)
    rank = np.unique(score, return_inverse=True)[1]
    expected = roc_auc_score(target, score, sample_weight=weight)
    assert weighted_auc(target, rank, weight) == pytest.approx(expected)


@given(ROWS, st.integers(0, 10**6))
def test_calibration_bins_are_scikit_learns(rows: int, seed: int) -> None:
    target, score = sample(rows, seed)
    observed, predicted = calibration_curve(target, score, n_bins=15, strategy="uniform")
    bins = calibration_bins(target, score)
    assert bins.observed == pytest.approx(observed)
    assert bins.predicted == pytest.approx(predicted)
    assert bins.share.sum() == pytest.approx(1)


def test_ece_is_zero_for_perfect_and_one_for_inverted_certainty() -> None:
    target = np.array([0.0, 1.0, 1.0])
    assert expected_calibration_error(target, target) == 0
    assert expected_calibration_error(target, 1 - target) == 1


@given(ROWS, st.integers(0, 10**6))
def test_gini_and_ks_follow_from_the_roc(rows: int, seed: int) -> None:
    target, score = sample(rows, seed)
    metrics = measure(target, score)
    assert metrics.gini == pytest.approx(2 * metrics.roc_auc - 1)
    assert 0 <= metrics.ks <= 1


@given(ROWS, st.integers(0, 10**6))
def test_the_decision_threshold_separates_best(rows: int, seed: int) -> None:
    target, score = sample(rows, seed)
    threshold = decision_threshold(target, score)
    gaps = [(score[target == 1] >= t).mean() - (score[target == 0] >= t).mean() for t in score]
    assert (score[target == 1] >= threshold).mean() - (score[target == 0] >= threshold).mean() >= max(gaps) - 1e-9


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 3), st.floats(-1, 1), st.integers(0, 1000))
def test_calibration_undoes_a_known_distortion(slope: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, 20_000)
    target = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    fitted = calibrate((logit - shift) / slope, target)
    assert fitted.slope == pytest.approx(slope, rel=0.15)
    assert fitted.intercept == pytest.approx(shift, abs=0.15)


def test_calibration_never_flips_a_ranking() -> None:
    target, score = sample(200, 0)
    fitted = calibrate(-target + 0.01 * score, target)
    assert fitted.slope == 0
    assert fitted.apply(np.zeros(1))[0] == pytest.approx(target.mean())


def test_paired_bootstrap_sees_a_clear_difference_and_no_difference() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 3_000).astype(float)
    good, poor = target + rng.normal(0, 1, 3_000), target + rng.normal(0, 3, 3_000)
    assert compare_auc(target, poor, good, seed=0).lower_bound > 0.1
    assert compare_auc(target, good, poor, seed=0).lower_bound < -0.1
    same = compare_auc(target, good, good, seed=0)
    assert (same.auc_difference, same.lower_bound) == (0, 0)
