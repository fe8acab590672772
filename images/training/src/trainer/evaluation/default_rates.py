"""Observed default rates and their intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

Vector = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """A default rate that was observed.

    Attributes:
        rows: Number of rows.
        defaults: How many of them defaulted; of weighted rows, the number out of `effective_rows`.
        effective_rows: How many equally weighted rows would tell as much; `rows` if they are that already.
    """

    rows: int
    defaults: float
    effective_rows: float

    @property
    def value(self) -> float | None:
        """The share of rows that defaulted, by weight; None without rows."""
        return self.defaults / self.effective_rows if self.rows else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Jeffreys interval of the underlying default rate, from 0 to 1 without rows.

        Equal tails of the posterior Beta(defaults + 1/2, repaid + 1/2), with 0 and 1 as its ends if no row or every
        row defaulted (Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001). For small rates
        and few rows its coverage is closer to the nominal one than that of the normal approximation, and it is shorter
        than Clopper and Pearson's.
        """
        repaid = self.effective_rows - self.defaults
        low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], self.defaults + 0.5, repaid + 0.5)
        return float(low) if self.defaults else 0.0, float(high) if repaid else 1.0


def outcomes(target: Vector, chosen: npt.NDArray[np.bool_], weight: Vector | None = None) -> Rate:
    """Return how the chosen rows turned out.

    Unequal weights tell less than as many rows: by Kish (Survey Sampling, 1965), as much as the squared sum of the
    weights over the sum of their squares. Rows of weight 0 are none.

    Args:
        target: 1 for default, 0 for repaid, [N].
        chosen: Which rows count, [N].
        weight: How many loans each row stands for, [N], with some above 0; None for one each.
    """
    counted = np.ones(len(target)) if weight is None else weight
    of_chosen = counted[chosen]
    rows, total, squares = int((of_chosen > 0).sum()), float(of_chosen.sum()), float(of_chosen @ of_chosen)
    per_loan = total / squares if rows else 0.0
    return Rate(rows, defaults=per_loan * float(of_chosen @ target[chosen]), effective_rows=per_loan * total)
