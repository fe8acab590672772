from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from trainer.learning.linear import LinearModels, fit_linear

FOLDS = 4


def rows(count: int, *, signal: float, rate: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw six columns, two of which matter; a negative `rate` makes defaults rare."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(count, 6))
    probability = 1 / (1 + np.exp(-(signal * (columns[:, 0] - 0.5 * columns[:, 1]) + rate)))
    target = rng.random(count) < probability
    return torch.from_numpy(columns).float(), torch.from_numpy(target).float()


def fitted(
    columns: torch.Tensor,
    target: torch.Tensor,
    spread: torch.Tensor | None = None,
    directions: torch.Tensor | None = None,
) -> LinearModels:
    spread = torch.ones(columns.shape[1]) if spread is None else spread
    directions = torch.zeros(columns.shape[1]) if directions is None else directions
    fold = torch.arange(len(target)) % FOLDS
    return fit_linear(columns, target, fold, folds=FOLDS, spread=spread, directions=directions)


@pytest.mark.parametrize("rate", [0.0, -4.5])
def test_each_fold_has_scikit_learns_regression_of_the_other_folds(rate: float) -> None:
    columns, target = rows(2_000, signal=2.0, rate=rate)
    found = fitted(columns, target)
    for fold in range(FOLDS):
        others = torch.arange(len(target)) % FOLDS != fold
        expected = LogisticRegression(C=1 / found.penalty, tol=1e-8, max_iter=1_000).fit(
            columns[others], target[others]
        )
        assert found.weight[fold].numpy() == pytest.approx(expected.coef_[0], abs=1e-2)
        assert float(found.bias[fold]) == pytest.approx(expected.intercept_[0], abs=1e-2)


def test_out_of_fold_logits_come_from_the_model_without_the_rows_fold() -> None:
    columns, target = rows(400, signal=1.0)
    fold = torch.arange(400) % FOLDS
    found = fitted(columns, target)
    expected = [columns[row] @ found.weight[fold[row]] + found.bias[fold[row]] for row in range(400)]
    torch.testing.assert_close(found.out_of_fold(columns, fold), torch.stack(expected))


def test_the_less_the_columns_tell_the_higher_is_the_penalty() -> None:
    assert fitted(*rows(300, signal=0.0)).penalty > fitted(*rows(300, signal=4.0)).penalty


def test_a_column_with_a_smaller_spread_gets_a_smaller_weight() -> None:
    columns, target = rows(500, signal=1.0)
    columns[:, 5] = columns[:, 0]
    weight = fitted(columns, target, torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.1])).weight.mean(0)
    # Of two equal columns, each gets weight in proportion to the square of its spread.
    assert float(weight[5] / weight[0]) == pytest.approx(0.01, rel=0.01)


def test_outcomes_that_a_line_separates_leave_finite_weights() -> None:
    columns, _ = rows(200, signal=0.0)
    found = fitted(columns, (columns[:, 0] > 0).float())
    assert torch.isfinite(found.weight).all()
    assert (found.weight[:, 0] > 1).all()


def test_a_fold_without_which_there_is_no_default_has_a_constant_model() -> None:
    columns, _ = rows(200, signal=0.0)
    target = torch.zeros(200)
    target[6] = 1
    found = fitted(columns, target)
    alone = 6 % FOLDS
    assert not found.weight[alone].any()
    assert float(torch.sigmoid(found.bias[alone])) == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(found.weight).all()


def test_rows_of_weight_0_count_for_nothing() -> None:
    columns, target = rows(400, signal=1.0)
    weight = torch.ones(400)
    weight[::3] = 0
    fold, kept = torch.arange(400) % FOLDS, weight > 0
    spread, free = torch.ones(6), torch.zeros(6)
    found = fit_linear(columns, target, fold, weight, folds=FOLDS, spread=spread, directions=free)
    expected = fit_linear(columns[kept], target[kept], fold[kept], folds=FOLDS, spread=spread, directions=free)
    torch.testing.assert_close(found.weight, expected.weight, atol=1e-3, rtol=1e-3)


def test_of_very_many_rows_a_part_is_enough() -> None:
    columns, target = rows(60_000, signal=1.0)
    found = fitted(columns, target)
    assert found.weight[:, 0].numpy() == pytest.approx(np.ones(FOLDS), abs=0.1)
    assert found.weight[:, 1].numpy() == pytest.approx(np.full(FOLDS, -0.5), abs=0.1)


def test_a_weight_against_its_direction_is_zero_and_the_others_are_what_they_were() -> None:
    columns, target = rows(500, signal=1.0)
    free = fitted(columns, target).weight
    found = fitted(columns, target, directions=torch.tensor([1.0, 1.0, 0.0, 0.0, -1.0, 0.0])).weight
    assert (free[:, 1] < 0).all()
    assert not found[:, 1].any()
    assert torch.equal(found[:, [0, 2, 3, 5]], free[:, [0, 2, 3, 5]])
    assert (found[:, 4] <= 0).all()
