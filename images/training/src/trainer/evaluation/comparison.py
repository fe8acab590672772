"""Compare champion and challenger on the same held-out rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.evaluation.metrics import weighted_auc

_RESAMPLES = 500
_CONFIDENCE = 0.95

_PART_ROWS = 65_536

Scalar = TypeVar("Scalar", bound=np.generic)
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Challenger minus champion.

    Attributes:
        auc_difference: On all rows.
        lower_bound: One-sided 95 % lower confidence bound of the difference, from a paired bootstrap.
    """

    auc_difference: float
    lower_bound: float


def by_parts(function: Callable[[pd.DataFrame], npt.NDArray[Scalar]], rows: pd.DataFrame) -> npt.NDArray[Scalar]:
    """Return what a function of rows returns for each of them, [N], called with parts of them to save memory."""
    starts = range(0, max(len(rows), 1), _PART_ROWS)
    return np.concatenate([function(rows.iloc[start : start + _PART_ROWS]) for start in starts])


def compare_auc(
    target: Vector, champion: Vector, challenger: Vector, weight: Vector | None = None, *, seed: int
) -> Comparison:
    """Bootstrap the difference between two models' AUC on the same rows, resampling rows with replacement.

    Args:
        target: 1 for default, 0 for repaid, [N]; both occur.
        champion: Probabilities of the Production model, [N].
        challenger: Probabilities of the new model, [N].
        weight: How many loans each row stands for, [N]; None for one each.
        seed: Seed of the resampling.
    """
    ranks = [np.unique(scores, return_inverse=True)[1].astype(np.int64) for scores in (champion, challenger)]
    rng = np.random.default_rng(seed)
    rows = len(target)
    counted = np.ones(rows) if weight is None else weight

    def difference(times: Vector) -> float:
        before, now = (weighted_auc(target, rank, counted * times) for rank in ranks)
        return now - before

    resampled = [
        difference(np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64))
        for _ in range(_RESAMPLES)
    ]
    return Comparison(
        auc_difference=difference(np.ones(rows)),
        # A resample with only one class has no AUC and is left out.
        lower_bound=float(np.nanquantile(resampled, 1 - _CONFIDENCE)),
    )
