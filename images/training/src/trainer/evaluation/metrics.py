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


def measure(target: npt.ArrayLike, probability: npt.ArrayLike) -> Metrics:
    """Compute all metrics; both arguments have the shape [N], and the target must contain both 0 and 1."""
    truth = np.asarray(target, dtype=np.float64)
    score = np.asarray(probability, dtype=np.float64)
    auc = float(roc_auc_score(truth, score))
    false_positive, true_positive, _ = roc_curve(truth, score)
    return Metrics(
        roc_auc=auc,
        gini=2 * auc - 1,
        ks=float((true_positive - false_positive).max()),
        brier=float(brier_score_loss(truth, score)),
        log_loss=float(log_loss(truth, score)),
        ece=expected_calibration_error(truth, score),
    )


@dataclass(frozen=True)
class CalibrationBins:
    """Non-empty equal-width bins: mean prediction, observed default rate and share of rows, each [bins]."""

    predicted: Vector
    observed: Vector
    share: Vector


def calibration_bins(target: Vector, probability: Vector, *, bins: int = CALIBRATION_BINS) -> CalibrationBins:
    """Group predictions into equal-width bins; the last bin includes 1."""
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    return CalibrationBins(
        predicted=(np.bincount(index, probability, minlength=bins)[filled] / count[filled]),
        observed=(np.bincount(index, target, minlength=bins)[filled] / count[filled]),
        share=count[filled] / len(index),
    )


def expected_calibration_error(target: Vector, probability: Vector, *, bins: int = CALIBRATION_BINS) -> float:
    """Average the gap between predicted and observed default rate over bins, by rows (Naeini et al., 2015)."""
    grouped = calibration_bins(target, probability, bins=bins)
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
