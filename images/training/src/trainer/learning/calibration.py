"""Platt scaling of logits; slope and intercept become part of the exported graph."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(slope * logit + intercept)`; the slope is never negative."""

    slope: float
    intercept: float

    def apply(self, logit: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return probabilities of default for raw logits, [N]."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * logit + self.intercept))), dtype=np.float64)


def calibrate(logit: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> Calibration:
    """Fit slope and intercept on out-of-fold predictions (Platt, 1999).

    Args:
        logit: Out-of-fold logits, [N].
        target: 1 for default, 0 for repaid, [N].
    """
    fitted = LogisticRegression(C=1e6).fit(logit[:, None], target)
    slope = float(fitted.coef_[0, 0])
    # A network that learned nothing, or the opposite, is calibrated to the base rate instead of an inverted ranking.
    if slope <= 0:
        rate = float(np.clip(target.mean(), 1e-6, 1 - 1e-6))
        return Calibration(slope=0.0, intercept=float(np.log(rate / (1 - rate))))
    return Calibration(slope=slope, intercept=float(fitted.intercept_[0]))
