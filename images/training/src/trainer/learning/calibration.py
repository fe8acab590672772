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


def calibrate(
    logit: npt.NDArray[np.float64], target: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None
) -> Calibration:
    """Fit slope and intercept on out-of-fold predictions (Platt, 1999).

    Args:
        logit: Out-of-fold logits, [N].
        target: 1 for default, 0 for repaid, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    fitted = LogisticRegression(C=1e6).fit(logit[:, None], target, sample_weight=weight)
    slope = float(fitted.coef_[0, 0])
    # A network that learned nothing, or the opposite, is calibrated to the base rate instead of an inverted ranking.
    if slope <= 0:
        rate = float(np.clip(np.average(target, weights=weight), 1e-6, 1 - 1e-6))
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


def find_limits(
    logit: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64] | None = None,
    *,
    minimum: float = 0.0,
) -> Limits:
    """Find the lowest and the highest default rate of which any group of extreme out-of-fold scores gives evidence.

    For the k rows with the lowest scores, d of which defaulted, the Clopper-Pearson bound (1934) is the default rate at
    which d or fewer defaults are as likely as not. The floor is the lowest such bound over all k: with no default among
    the k safest rows it is about .7 / k, however much lower the network's extrapolation is. The confidence of one half
    is the least of those that Pluto and Tasche (2005) use for portfolios with few defaults; a higher one would lift
    more of the portfolio onto the floor. The ceiling is the same from the other end. Of weighted rows, k is the group's
    effective number (Kish, 1965), and d that number times its weighted default rate (Korn and Graubard, 1998).

    Args:
        logit: Out-of-fold logits, [N].
        target: 1 for default, 0 for repaid, [N].
        weight: How many loans each row stands for, [N]; None for one each.
        minimum: A floor from elsewhere, such as Basel's .0005; the higher one counts.
    """
    counted = np.ones(len(target)) if weight is None else weight
    order = np.argsort(logit, kind="stable")
    # Rows without weight are no evidence, and a group of them alone has no rate.
    order = order[counted[order] > counted.max() * _TINY]
    defaulted, shares = target[order], counted[order]
    # A group never ends between rows with the same score.
    ends = np.append(np.flatnonzero(np.diff(logit[order])) + 1, len(order))
    base = float(np.average(defaulted, weights=shares))
    # A ranking without information has no extremes: both bounds would meet at the base rate.
    floor = max(min(_upper_bound(defaulted, shares, ends), base / 2), minimum)
    starts = len(order) - np.append(0, ends[:-1])
    ceiling = max(1 - _upper_bound(1 - defaulted[::-1], shares[::-1], starts), (1 + base) / 2)
    return Limits(floor=_rounded(floor), ceiling=1 - _rounded(1 - ceiling))


def _upper_bound(event: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], ends: npt.NDArray[np.int64]) -> float:
    """Return the lowest Clopper-Pearson upper bound, at a confidence of one half, of groups of the first rows.

    Args:
        event: 1 or 0 per row, [N].
        weight: Above 0, [N].
        ends: The number of rows in each group, [groups].
    """
    total = weight.cumsum()[ends - 1]
    rows = total**2 / (weight**2).cumsum()[ends - 1]
    events = rows * (weight * event).cumsum()[ends - 1] / total
    return float(beta.ppf(_CONFIDENCE, events + 1, np.maximum(rows - events, _TINY)).min())


def _rounded(probability: float) -> float:
    """Round to three digits: nobody reads more into it."""
    return float(f"{probability:.3g}")
