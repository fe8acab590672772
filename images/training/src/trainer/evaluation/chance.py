"""What chance alone would do: how good or bad a model may look on so few rows.

Gates refuse a model only for what its test rows show; benchmarks/training/gates.py measures how often they are wrong.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

from trainer.evaluation.metrics import CALIBRATION_BINS

# One-sided, of every statement about chance.
CONFIDENCE = 0.95
_RESAMPLES = 1_000
_HIGHEST_RATIO = 1e6

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChanceLevels:
    """What test rows of this size show by chance in one of 20 samples.

    Attributes:
        rows: Test rows.
        defaults: Those that defaulted.
        ece: The expected calibration error that a perfectly calibrated model stays at or below in 95 % of samples.
        roc_auc: The ROC AUC that a model without any skill stays at or below in 95 % of samples.
    """

    rows: int
    defaults: int
    ece: float
    roc_auc: float


def chance_levels(target: Vector, probability: Vector, weight: Vector | None = None) -> ChanceLevels:
    """Return the levels for outcomes, 0 or 1, and predicted probabilities, both [N]; the target has both classes.

    Args:
        target: 1 for default, 0 for repaid, [N].
        probability: Predicted probabilities, [N].
        weight: How many loans each row stands for, [N]; None for one each. The more they differ, the more is chance.
    """
    counted = np.ones(len(target)) if weight is None else weight
    return ChanceLevels(
        rows=len(target),
        defaults=int(target.sum()),
        ece=calibration_error_by_chance(probability, weight),
        roc_auc=auc_by_chance(_effective(counted[target == 1]), _effective(counted[target == 0])),
    )


def _effective(weight: Vector) -> float:
    """Return how many rows of equal weight say as much (Kish, "Survey Sampling", 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def calibration_error_by_chance(
    probability: Vector, weight: Vector | None = None, *, bins: int = CALIBRATION_BINS, seed: int = 0
) -> float:
    """Return the 95 % quantile of the expected calibration error if every probability were right.

    Outcomes are drawn from the model's own probabilities: consistency resampling (Broecker and Smith, "Increasing the
    Reliability of Reliability Diagrams", Weather and Forecasting 22, 2007; as a test of calibration in Vaicenavicius
    et al., AISTATS 2019).

    Args:
        probability: Predicted probabilities of the test rows, [N].
        weight: How many loans each row stands for, [N]; None for one each.
        bins: Equal-width bins of the calibration error.
        seed: Seed of the outcomes.
    """
    rng = np.random.default_rng(seed)
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    shares = np.full(len(index), 1 / len(index)) if weight is None else weight / weight.sum()
    errors = np.empty(_RESAMPLES)
    for draw in range(_RESAMPLES):
        gaps = np.bincount(index, shares * ((rng.random(len(index)) < probability) - probability), minlength=bins)
        errors[draw] = np.abs(gaps).sum()
    return float(np.quantile(errors, CONFIDENCE, method="higher"))


def auc_by_chance(defaults: float, repaid: float) -> float:
    """Return the 95 % quantile of the ROC AUC of scores that have nothing to do with the outcome.

    The AUC is the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982), here in its normal approximation,
    which is a little too high for a handful of defaults.
    """
    deviation = math.sqrt((defaults + repaid + 1) / (12 * defaults * repaid))
    return min(0.5 + float(norm.ppf(CONFIDENCE)) * deviation, 1.0)


@dataclass(frozen=True)
class Approvals:
    """How many of a group's rows were approved."""

    approved: int
    rows: int

    @property
    def rate(self) -> float:
        """Share of rows that were approved."""
        return self.approved / self.rows


def highest_ratio(group: Approvals, best: Approvals, *, comparisons: int = 1) -> float:
    """Return the upper 95 % confidence bound of a group's approval rate over that of the best-treated group.

    Koopman's score interval (Biometrics 40, 1984), which Fagerland, Lydersen and Laake recommend for ratios
    (Statistical Methods in Medical Research 24, 2015): unlike the interval of the ratio's logarithm it also holds for
    few rows, and for no approvals.

    Args:
        group: The group.
        best: The best-treated group; some of its rows were approved.
        comparisons: How many groups are compared. The bounds hold for all of them together (Bonferroni): among many
            groups that are treated alike, some group's ratio is low by chance.
    """
    quantile = float(norm.ppf(1 - (1 - CONFIDENCE) / comparisons))

    def distance(ratio: float) -> float:
        return _score(group, best, ratio) + quantile

    observed = max(group.rate / best.rate, 1e-9)
    return _HIGHEST_RATIO if distance(_HIGHEST_RATIO) > 0 else float(brentq(distance, observed, _HIGHEST_RATIO))


def _score(group: Approvals, best: Approvals, ratio: float) -> float:
    """Return the standardized distance of the observed rates from a given ratio, which decreases in the ratio.

    The variance is that of the rates that are most likely under the ratio (Gart and Nam, Biometrics 44, 1988).
    """
    rows = group.rows + best.rows
    linear = ratio * (group.rows + best.approved) + best.rows + group.approved
    root = math.sqrt(max(linear**2 - 4 * ratio * rows * (group.approved + best.approved), 0.0))
    best_rate = (linear - root) / (2 * ratio * rows)
    rate = ratio * best_rate
    variance = rate * (1 - rate) / group.rows + ratio**2 * best_rate * (1 - best_rate) / best.rows
    # Without variance, the ratio is the observed one: both rates are 1.
    return (group.rate - ratio * best.rate) / math.sqrt(variance) if variance > 0 else 0.0
