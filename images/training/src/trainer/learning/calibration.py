"""Platt scaling of logits, and how far its probabilities can be trusted; both become part of the exported graph."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

_CONFIDENCE = 0.5
# A group in which all rows defaulted has no upper bound below 1.
_TINY = 1e-9


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


@dataclass(frozen=True)
class Limits:
    """The lowest and the highest probability of default that the calibration data can support."""

    floor: float
    ceiling: float

    def apply(self, probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return probabilities, [N], moved to the nearer limit where they are beyond it."""
        return np.clip(probability, self.floor, self.ceiling)


def find_limits(logit: npt.NDArray[np.float64], target: npt.NDArray[np.float64], *, minimum: float = 0.0) -> Limits:
    """Find the lowest and the highest default rate of which any group of extreme out-of-fold scores gives evidence.

    For the k rows with the lowest scores, d of which defaulted, the Clopper-Pearson bound (1934) is the default rate at
    which d or fewer defaults are as likely as not. The floor is the lowest such bound over all k: with no default among
    the k safest rows it is about .7 / k, however much lower the network's extrapolation is. The confidence of one half
    is the least of those that Pluto and Tasche (2005) use for portfolios with few defaults; a higher one would lift
    more of the portfolio onto the floor. The ceiling is the same from the other end.

    Args:
        logit: Out-of-fold logits, [N].
        target: 1 for default, 0 for repaid, [N].
        minimum: A floor from elsewhere, such as Basel's .0005; the higher one counts.
    """
    order = np.argsort(logit, kind="stable")
    # A group never ends between rows with the same score.
    ends = np.append(np.flatnonzero(np.diff(logit[order])) + 1, len(order))
    events = target[order].cumsum()[ends - 1]
    total, count = target.sum(), len(target)
    starts = count - np.append(0, ends[:-1])
    repaid = starts - (total - np.append(0, events[:-1]))
    base = total / count
    # A ranking without information has no extremes: both bounds would meet at the base rate.
    floor = max(min(_upper_bound(events, ends), base / 2), minimum)
    ceiling = max(1 - _upper_bound(repaid, starts), (1 + base) / 2)
    return Limits(floor=_rounded(floor), ceiling=1 - _rounded(1 - ceiling))


def _upper_bound(events: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> float:
    """Return the lowest of the groups' Clopper-Pearson upper bounds at a confidence of one half."""
    return float(beta.ppf(_CONFIDENCE, events + 1, np.maximum(rows - events, _TINY)).min())


def _rounded(probability: float) -> float:
    """Round to three digits: nobody reads more into it."""
    return float(f"{probability:.3g}")
