from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from trainer.evaluation.metrics import (
    calibration_bins,
    expected_calibration_error,
    measure,
    weighted_auc,
)
from trainer.evaluation.threshold import ks_threshold

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


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(0, 10**6), st.booleans())
def test_a_row_with_weight_3_counts_as_three_rows(rows: int, seed: int, ties: bool) -> None:
    target, score = sample(rows, seed, ties=ties)
    # A model's probabilities are below 1.
    score *= 0.99
    times = np.random.default_rng(seed).integers(0, 4, rows)
    times[:2] = 1
    repeated = measure(np.repeat(target, times), np.repeat(score, times))
    # Only the relation between weights counts.
    assert astuple(measure(target, score, times / 7)) == pytest.approx(astuple(repeated))
    declined = score >= ks_threshold(target, score, times / 7)
    shares = [np.average(declined[target == outcome], weights=times[target == outcome]) for outcome in (1, 0)]
    assert shares[0] - shares[1] == pytest.approx(repeated.ks)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(0, 10**6))
def test_equal_weights_change_nothing(rows: int, seed: int) -> None:
    target, score = sample(rows, seed)
    assert astuple(measure(target, score, np.full(rows, 2.0))) == pytest.approx(astuple(measure(target, score)))
