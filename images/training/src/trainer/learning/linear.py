"""Ridge logistic regression on the encoded rows: the part of the model that few defaults suffice for."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

# Ridge penalties to choose from, on the sum of the rows' losses.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# More rows than this would only make a better fit of a function that is too simple for them.
ROWS = 20_000
_STEPS = 40
_STEPS_PER_HESSIAN = 3
_TOLERANCE = 1e-4
_SHORTEST_STEP = 1e-3
_TINY = 1e-6


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
    if len(encoded) > ROWS:
        chosen = torch.arange(ROWS, device=encoded.device) * len(encoded) // ROWS
        encoded, target, counted, fold = encoded[chosen], target[chosen], counted[chosen], fold[chosen]
    problem = _Problem.of(encoded * spread, target, counted, fold, folds)
    solved = problem.solve()
    held_out = (problem.losses(problem.rows @ solved) * (problem.counted - problem.trained)).sum(0)
    best = int(held_out.view(len(PENALTIES), folds).sum(1).argmin())
    found = solved.view(-1, len(PENALTIES), folds)[:, best].T.float()
    kept = torch.where(found[:, :-1] * directions < 0, 0.0, found[:, :-1])
    return LinearModels(kept * spread, found[:, -1].contiguous(), PENALTIES[best])


@dataclass(frozen=True)
class _Problem:
    """The regressions under all penalties and without each fold, one per column, in float64.

    They are solved together by Newton's method, with one Hessian for all folds, from the mean of their probabilities:
    that costs hardly more than solving one of them.

    Attributes:
        rows: [N, columns + 1]; the last column is one, for the bias.
        target: [N, 1].
        counted: How many loans each row stands for, [N, 1].
        trained: The same where a regression is fitted to a row, else 0; [N, penalties * folds].
        penalty: Of each regression, [penalties * folds].
        penalized: 1 for each column whose weight is penalized, [columns + 1].
    """

    rows: Tensor
    target: Tensor
    counted: Tensor
    trained: Tensor
    penalty: Tensor
    penalized: Tensor

    @classmethod
    def of(cls, columns: Tensor, target: Tensor, counted: Tensor, fold: Tensor, folds: int) -> "_Problem":
        rows = torch.cat([columns, columns.new_ones(len(columns), 1)], dim=1).double()
        trained = (fold[:, None] != torch.arange(folds, device=fold.device)) * counted.double()[:, None]
        penalized = torch.ones(rows.shape[1], dtype=torch.float64, device=rows.device)
        penalized[-1] = 0
        return cls(
            rows=rows,
            target=target.double()[:, None],
            counted=counted.double()[:, None],
            trained=trained.repeat(1, len(PENALTIES)),
            penalty=torch.tensor(PENALTIES, dtype=torch.float64, device=rows.device).repeat_interleave(folds),
            penalized=penalized,
        )

    def losses(self, logit: Tensor) -> Tensor:
        """Return each row's loss in each regression, [N, penalties * folds]."""
        return softplus(logit) - self.target * logit

    def solve(self) -> Tensor:
        """Return the weights of all regressions, [columns + 1, penalties * folds]."""
        rate = ((self.target * self.counted).mean() / self.counted.mean()).clamp(_TINY, 1 - _TINY)
        reached = self.rows.new_zeros(self.rows.shape[1], len(self.penalty))
        reached[-1] = torch.log(rate / (1 - rate))
        logit = self.rows @ reached
        objective = self._objective(logit, reached)
        for number in range(_STEPS):
            if number % _STEPS_PER_HESSIAN == 0:
                factors = self._factors(torch.sigmoid(logit).mean(1, keepdim=True))
            step = self._step(logit, reached, factors)
            reached, logit, lower = self._descend(reached, logit, objective, step)
            gain, objective = float((objective - lower).max()), lower
            if gain < _TOLERANCE:
                break
        return reached

    def _objective(self, logit: Tensor, weight: Tensor) -> Tensor:
        ridge = 0.5 * self.penalty * (self.penalized @ weight.square())
        return (self.losses(logit) * self.trained).sum(0) + ridge

    def _factors(self, probability: Tensor) -> Tensor:
        """Return the Cholesky factors of the Hessians, [penalties, columns + 1, columns + 1]."""
        folds = len(self.penalty) // len(PENALTIES)
        curvature = self.counted * probability * (1 - probability) * (folds - 1) / folds
        ridges = torch.diag_embed(self.penalized * self.penalty[::folds, None] + _TINY)
        factors: Tensor = torch.linalg.cholesky(self.rows.T @ (self.rows * curvature) + ridges)
        return factors

    def _step(self, logit: Tensor, weight: Tensor, factors: Tensor) -> Tensor:
        error = (torch.sigmoid(logit) - self.target) * self.trained
        gradient = self.rows.T @ error + self.penalty * self.penalized[:, None] * weight
        by_penalty = gradient.view(len(gradient), len(PENALTIES), -1).transpose(0, 1)
        return torch.cholesky_solve(by_penalty, factors).transpose(0, 1).reshape(gradient.shape)

    def _descend(self, weight: Tensor, logit: Tensor, objective: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take each regression's step, or as much of it as lowers the objective."""
        change = self.rows @ step
        length = torch.ones_like(objective)
        while True:
            lower = self._objective(logit - length * change, weight - length * step)
            worse = ~(lower <= objective)
            if not worse.any():
                return weight - length * step, logit - length * change, lower
            length = torch.where(worse, length / 2, length)
            length = torch.where(length < _SHORTEST_STEP, torch.zeros_like(length), length)
