"""How far the principal reasons that the canary names are from those of the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decisions.checks.model import Estimate

# Rarer reasons, by their share of both versions' decisions, are taken as one.
_RARE = 0.02


@dataclass(frozen=True)
class Drift:
    """The distance of two distributions of reasons, and the reason whose share changed the most."""

    distance: Estimate
    reason: str
    champion_share: float
    canary_share: float


def drift(champion: Mapping[str, int], canary: Mapping[str, int]) -> Drift:
    """Compare how often each reason was the first; each version named at least one.

    The distance is the sum of (q - p)^2 / ((p + q) / 2) over all reasons, that of the chi-square test: as large as the
    population stability index where both are small, and at most 4. The index itself has no bound, and is the less
    certain the rarer a reason becomes: one that the canary never names would prove nothing. What two samples of one
    distribution have anyway is subtracted. The variance is that of the delta method, and at least that of the
    chi-square distribution which remains where both distributions are the same.
    """
    n, m = sum(champion.values()), sum(canary.values())
    names = sorted(name for name in {*champion, *canary} if champion.get(name) or canary.get(name))
    shares = np.array([[champion.get(name, 0) / n, canary.get(name, 0) / m] for name in names])
    most = int(np.abs(shares[:, 1] - shares[:, 0]).argmax())
    rare = shares.mean(axis=1) < _RARE
    p, q = (np.vstack([shares[~rare], shares[rare].sum(axis=0)]) if rare.any() else shares).T
    gap, both = q - p, p + q
    noise = (len(p) - 1) * (1 / n + 1 / m)
    variance = _variance(q, 2 * gap * (q + 3 * p) / both**2) / m + _variance(p, -2 * gap * (p + 3 * q) / both**2) / n
    # Nor is it certain that a version which has named one reason alone will go on so.
    least = max(2 * noise, 1 / n + 1 / m) * (1 / n + 1 / m)
    distance = Estimate(max(0.0, float((2 * gap**2 / both).sum()) - noise), max(variance, least))
    return Drift(distance, names[most], float(shares[most, 0]), float(shares[most, 1]))


def _variance(shares: npt.NDArray[np.float64], influence: npt.NDArray[np.float64]) -> float:
    return float((shares * influence**2).sum() - (shares * influence).sum() ** 2)
