import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from trainer.evaluation.metrics import (
    calibration_bins,
    expected_calibration_error,
    measure,
    weighted_auc,
)

ROWS = st.integers(min_value=4, max_value=200)


def sample(rows: int, seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, rows).astype(float)
    target[:2] = 0, 1
    score = rng.random(rows)
    return target, score.round(1) if ties else score


@given(ROWS, st.integers(0, 10**6), st.booleans())
def test_weighted_auc_equals_scikit_learns(rows: int, seed: int, ties: bool) -> None:
    target, score = sample(rows, seed, ties=ties)
    weight = np.random.default_rng(seed).integers(1, 4, rows).astype(float)
    rank = np.unique(score, return_inverse=True)[1]
    expected = roc_auc_score(target, score, sample_weight=weight)
    assert weighted_auc(target, rank, weight) == pytest.approx(expected)


@given(ROWS, st.integers(0, 10**6))
def test_calibration_bins_equal_scikit_learns(rows: int, seed: int) -> None:
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
def test_gini_follows_from_the_auc_and_ks_is_a_share(rows: int, seed: int) -> None:
    target, score = sample(rows, seed)
    metrics = measure(target, score)
    assert metrics.gini == pytest.approx(2 * metrics.roc_auc - 1)
    assert 0 <= metrics.ks <= 1
