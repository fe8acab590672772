"""Expected and realized performance from bins, against figures from single loans."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from decisions.drift.ranking import Loans, expected, realized

Array = npt.NDArray[np.float64]


def drawn(seed: int, loans: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return probabilities and the bins they are in."""
    log_odds = np.random.default_rng(seed).normal(-2.5, 1.2, loans)
    return 1 / (1 + np.exp(-log_odds)), np.round(log_odds / 0.01).astype(np.int64) + 1600


def binned(probability: Array, bins: npt.NDArray[np.int64], defaulted: npt.NDArray[np.bool_] | None) -> Loans:
    counts = np.bincount(bins)
    filled = counts > 0
    mean = np.bincount(bins, probability)[filled] / counts[filled]
    if defaulted is None:
        return Loans(mean, counts[filled].astype(np.float64))
    defaults = np.bincount(bins[defaulted], minlength=len(counts))[filled].astype(np.float64)
    return Loans(mean, counts[filled].astype(np.float64), defaults)


def test_realized_figures_are_those_of_single_loans() -> None:
    probability, bins = drawn(1, 20_000)
    defaulted = np.random.default_rng(2).random(20_000) < probability
    found = realized(binned(probability, bins, defaulted))
    assert found.auc
    assert found.gini
    assert found.auc.value == pytest.approx(roc_auc_score(defaulted, probability), abs=5e-4)
    assert found.gini.value == pytest.approx(2 * found.auc.value - 1)
    assert found.brier.value == pytest.approx(brier_score_loss(defaulted, probability), abs=1e-5)
    assert found.default_rate.value == pytest.approx(defaulted.mean())
    assert found.ks
    positions = np.sort(probability)
    ours, theirs = (np.searchsorted(np.sort(probability[of]), positions, "right") / of.sum()
                    for of in (defaulted, ~defaulted))  # fmt: skip
    assert found.ks.value == pytest.approx(np.abs(ours - theirs).max(), abs=0.003)


def test_what_is_expected_comes_true_if_the_probabilities_are_right() -> None:
    inside = []
    for seed in range(20):
        probability, bins = drawn(seed, 3000)
        found = expected(binned(probability, bins, None))
        defaulted = np.random.default_rng(seed + 100).random(3000) < probability
        assert found.auc
        inside += [found.auc.lower <= roc_auc_score(defaulted, probability) <= found.auc.upper,
                   found.default_rate.lower <= defaulted.mean() <= found.default_rate.upper]  # fmt: skip
    assert sum(inside) >= 34, "95 % of 40 are 38; 33 and fewer have a chance of .3 %"


def test_what_is_expected_does_not_come_true_if_twice_as_many_default() -> None:
    probability, bins = drawn(5, 3000)
    found = expected(binned(probability, bins, None))
    odds = 2 * probability / (1 - probability)
    defaulted = np.random.default_rng(6).random(3000) < odds / (1 + odds)
    assert defaulted.mean() > found.default_rate.upper


def test_without_both_outcomes_nothing_is_ranked() -> None:
    found = realized(Loans(np.array([0.1, 0.2]), np.array([5.0, 5.0]), np.zeros(2)))
    assert (found.auc, found.gini, found.ks) == (None, None, None)
    assert found.default_rate.value == 0
