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
        defaults: How many of them defaulted.
    """

    rows: int
    defaults: int

    @property
    def value(self) -> float | None:
        """The share of rows that defaulted; None without rows."""
        return self.defaults / self.rows if self.rows else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Jeffreys interval of the underlying default rate, from 0 to 1 without rows.

        Equal tails of the posterior Beta(defaults + 1/2, repaid + 1/2), with 0 and 1 as its ends if no row or every
        row defaulted (Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001). For small rates
        and few rows its coverage is closer to the nominal one than that of the normal approximation, and it is shorter
        than Clopper and Pearson's.
        """
        repaid = self.rows - self.defaults
        low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], self.defaults + 0.5, repaid + 0.5)
        return float(low) if self.defaults else 0.0, float(high) if repaid else 1.0


def outcomes(target: Vector, chosen: npt.NDArray[np.bool_]) -> Rate:
    """Return how the chosen rows turned out.

    Args:
        target: 1 for default, 0 for repaid, [N].
        chosen: Which rows count, [N].
    """
    return Rate(rows=int(chosen.sum()), defaults=int(target[chosen].sum()))
