"""How well scores separate defaults from repaid loans: the AUC expected from the PDs, and the AUC of outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from decisions.checks.model import Estimate

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Decisions of one version by bins of the PD, from the lowest; no bin is empty.

    Attributes:
        pd: The mean probability of default in each bin.
        decisions: How many there are.
        defaulted: Of how many the loan defaulted.
        repaid: Of how many it was repaid.
    """

    pd: Numbers
    decisions: Numbers
    defaulted: Numbers
    repaid: Numbers

    @property
    def known(self) -> int:
        """Return how many loans have an outcome."""
        return int(self.defaulted.sum() + self.repaid.sum())


def expected_auc(scores: Scores) -> Estimate:
    """Return the AUC that is expected if every PD is right: that of labels drawn from the PDs.

    It is the share, among all pairs of a default and a repaid loan that the PDs lead to expect, of those in which the
    default has the higher PD; ties count half. The variance is that of the ratio of two U-statistics, by their
    influence functions. One of PDs that are all 0 or all 1 has no such pairs, and counts as .5.
    """
    total = scores.decisions.sum()
    bad, good = scores.decisions * scores.pd / total, scores.decisions * (1 - scores.pd) / total
    mean, pairs = bad.sum(), bad.sum() * good.sum()
    if pairs <= 0:
        return Estimate(0.5, 1 / total)
    below, above = np.cumsum(good) - good / 2, bad.sum() - (np.cumsum(bad) - bad / 2)
    auc = float((bad * below).sum() / pairs)
    won = scores.pd * below + (1 - scores.pd) * above - 2 * auc * pairs
    drawn = scores.pd * (1 - mean) + (1 - scores.pd) * mean - 2 * pairs
    influence = (won - auc * drawn) / pairs
    variance = (scores.decisions * influence**2).sum() / total**2
    # Scores that are all the same have no variance; that they will stay so is not certain.
    return Estimate(auc, float(max(variance, total**-2)))


def realized_auc(scores: Scores) -> Estimate:
    """Return the AUC of the outcomes, with DeLong's variance; at least one loan defaulted and one was repaid."""
    bad, good = scores.defaulted.sum(), scores.repaid.sum()
    below = (np.cumsum(scores.repaid) - scores.repaid / 2) / good
    above = (bad - (np.cumsum(scores.defaulted) - scores.defaulted / 2)) / bad
    auc = float((scores.defaulted * below).sum() / bad)
    of_bad = (scores.defaulted * (below - auc) ** 2).sum() / bad**2
    of_good = (scores.repaid * (above - auc) ** 2).sum() / good**2
    return Estimate(auc, float(max(of_bad + of_good, 1 / (bad * good) ** 2)))


def brier(scores: Scores) -> float:
    """Return the mean squared difference between PD and outcome; there is at least one outcome."""
    return float((scores.defaulted * (1 - scores.pd) ** 2 + scores.repaid * scores.pd**2).sum() / scores.known)
