"""Ridge logistic regression on the encoded rows: the part of the model that few defaults suffice for."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

# Ridge penalties to choose from, on the sum of the rows' losses. Each fit starts where that of the one before ended.
PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
# More rows than this would only make a better fit of a function that is too simple for them.
_ROWS = 20_000
_STEPS = 1_000
_TINY = 1e-6

Single = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LinearModels:
    """One linear model of the encoded columns per fold, fitted without that fold.

    Attributes:
        weight: float32 [folds, columns].
        bias: float32 [folds].
        penalty: The ridge penalty under which they predict their folds best.
    """

    weight: Tensor
    bias: Tensor
    penalty: float

    def out_of_fold(self, encoded: Tensor, fold: Tensor) -> Tensor:
        """Return the logit of each row from the model that was fitted without its fold, float32 [N]."""
        logits = torch.empty(len(encoded), device=encoded.device)
        for number, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            rows = fold == number
            logits[rows] = torch.addmv(bias, encoded[rows], weight)
        return logits


def rows_to_fit(rows: int) -> Tensor:
    """Return which of so many rows linear models are fitted to, all of them or as many as suffice, int64 [M]."""
    return torch.arange(rows) if rows <= _ROWS else torch.arange(_ROWS) * rows // _ROWS


@torch.no_grad()
def fit_linear(
    encoded: Tensor,
    target: Tensor,
    fold: Tensor,
    weight: Tensor | None = None,
    *,
    folds: int,
    spread: Tensor,
    directions: Tensor,
) -> LinearModels:
    """Fit a logistic regression per fold, under the penalty that predicts the left-out folds best.

    Args:
        encoded: float32 [N, columns].
        target: 1 for default, 0 for repaid, float32 [N].
        fold: Fold of each row, int64 [N].
        weight: How many loans each row stands for, float32 [N], with a mean of 1; None for one each.
        folds: Number of folds.
        spread: How freely each column's weight may grow: the standard deviation of its prior, float32 [columns].
        directions: 1 where a weight may not be below zero, -1 where it may not be above it, else 0; float32 [columns].
            A weight on the wrong side becomes zero, without another fit: how well that does is judged with the rest.
    """
    counted = torch.ones_like(target) if weight is None else weight
    columns, truth, weights = ((encoded * spread).cpu().numpy(), target.cpu().numpy(), counted.cpu().numpy())
    left_out = fold.cpu().numpy()[None, :] == np.arange(folds)[:, None]
    paths = [_fit_path(columns, truth, weights, rows) for rows in left_out]
    best = int(np.sum([losses for _, losses in paths], axis=0).argmin())
    found = torch.from_numpy(np.stack([solved[best] for solved, _ in paths])).float().to(encoded.device)
    kept = torch.where(found[:, :-1] * directions < 0, 0.0, found[:, :-1])
    return LinearModels(kept * spread, found[:, -1].contiguous(), PENALTIES[best])


def _fit_path(
    columns: Single, target: Single, weight: Single, left_out: npt.NDArray[np.bool_]
) -> tuple[Vector, Vector]:
    """Fit the rows that are not left out under each penalty.

    Returns:
        Weights and bias of each regression, [penalties, columns + 1], and its loss on the rows left out, [penalties].
    """
    trained = ~left_out & (weight > 0)
    rows, outcomes, counted = columns[trained], target[trained], weight[trained]
    if outcomes.min() == outcomes.max():
        # Of a single outcome, nothing is learned but that it is frequent.
        rate = np.clip(outcomes[0], _TINY, 1 - _TINY)
        constant = np.append(np.zeros(columns.shape[1]), np.log(rate / (1 - rate)))
        solved = np.tile(constant, (len(PENALTIES), 1))
    else:
        model = LogisticRegression(warm_start=True, max_iter=_STEPS)
        fits = (model.set_params(C=1 / penalty).fit(rows, outcomes, sample_weight=counted) for penalty in PENALTIES)
        solved = np.stack([np.append(fit.coef_[0], fit.intercept_) for fit in fits])
    logit = columns[left_out] @ solved[:, :-1].T + solved[:, -1]
    losses = weight[left_out] @ (np.logaddexp(0, logit) - target[left_out, None] * logit)
    return solved.astype(np.float64), losses.astype(np.float64)
