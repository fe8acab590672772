"""Metrics of predicted probabilities: ranking, calibration and accuracy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

Vector = npt.NDArray[np.float64]

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Metrics:
    """Metrics of predicted probabilities of default against the observed outcomes.

    Attributes:
        roc_auc: Area under the ROC curve.
        gini: 2 * AUC - 1.
        ks: Kolmogorov-Smirnov distance between the scores of defaulted and repaid loans.
        brier: Mean squared error of the probability.
        log_loss: Mean negative log-likelihood, in nats.
        ece: Expected calibration error over 15 equal-width bins.
    """

    roc_auc: float
    gini: float
    ks: float
    brier: float
    log_loss: float
    ece: float


def measure(target: npt.ArrayLike, probability: npt.ArrayLike, weight: Vector | None = None) -> Metrics:
    """Compute all metrics, of rows that count as often as their weights say.

    Args:
        target: 1 for default, 0 for repaid, both with some weight, [N].
        probability: Probabilities of default, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    truth = np.asarray(target, dtype=np.float64)
    score = np.asarray(probability, dtype=np.float64)
    auc = float(roc_auc_score(truth, score, sample_weight=weight))
    false_positive, true_positive, _ = roc_curve(truth, score, sample_weight=weight)
    return Metrics(
        roc_auc=auc,
        gini=2 * auc - 1,
        ks=float((true_positive - false_positive).max()),
        brier=float(brier_score_loss(truth, score, sample_weight=weight)),
        log_loss=float(log_loss(truth, score, sample_weight=weight)),
        ece=expected_calibration_error(truth, score, weight),
    )


@dataclass(frozen=True)
class CalibrationBins:
    """Non-empty equal-width bins: mean prediction, observed default rate and share of loans, each [bins]."""

    predicted: Vector
    observed: Vector
    share: Vector


def calibration_bins(
    target: Vector, probability: Vector, weight: Vector | None = None, *, bins: int = CALIBRATION_BINS
) -> CalibrationBins:
    """Group predictions, [N], with weights, [N] or None for equal ones, into equal-width bins; the last includes 1."""
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    counted = np.ones(len(index)) if weight is None else weight
    count = np.bincount(index, counted, minlength=bins)
    filled = count > 0
    return CalibrationBins(
        predicted=(np.bincount(index, counted * probability, minlength=bins)[filled] / count[filled]),
        observed=(np.bincount(index, counted * target, minlength=bins)[filled] / count[filled]),
        share=count[filled] / count.sum(),
    )


def expected_calibration_error(
    target: Vector, probability: Vector, weight: Vector | None = None, *, bins: int = CALIBRATION_BINS
) -> float:
    """Average the gap between predicted and observed default rate over bins, by loans (Naeini et al., 2015)."""
    grouped = calibration_bins(target, probability, weight, bins=bins)
    return float(np.abs(grouped.predicted - grouped.observed) @ grouped.share)


def weighted_auc(target: Vector, score_rank: npt.NDArray[np.int64], weight: Vector) -> float:
    """Compute the ROC AUC of weighted rows; ties count half.

    Args:
        target: 0 or 1, [N].
        score_rank: Dense rank of each score, starting at 0, equal for equal scores, [N].
        weight: Weight of each row, [N].

    Returns:
        The AUC, or NaN if one of the classes has no weight.
    """
    positive = np.bincount(score_rank, weight * target)
    negative = np.bincount(score_rank, weight * (1 - target))
    below = negative.cumsum() - negative / 2
    pairs = positive.sum() * negative.sum()
    return float(positive @ below / pairs) if pairs else float("nan")
