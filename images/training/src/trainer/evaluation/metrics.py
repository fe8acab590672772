"""How good a set of probabilities is: ranking, calibration and sharpness."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

Vector = npt.NDArray[np.float64]

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Metrics:
    """Metrics of probabilities of default against what happened.

    Attributes:
        roc_auc: Area under the ROC curve.
        gini: 2 * AUC - 1.
        ks: Kolmogorov-Smirnov distance between the scores of defaulted and repaid loans.
        brier: Mean squared error of the probability.
        log_loss: Mean negative log-likelihood, in nats.
        ece: Expected calibration error over 15 bins of equal width.
    """

    roc_auc: float
    gini: float
    ks: float
    brier: float
    log_loss: float
    ece: float


def measure(target: npt.ArrayLike, probability: npt.ArrayLike) -> Metrics:
    """Compute all metrics; both arguments have the shape [N], target holds 0 and 1, both occur."""
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
    """Non-empty bins of equal width: mean prediction, observed default rate and share of rows, each [bins]."""

    predicted: Vector
    observed: Vector
    share: Vector


def calibration_bins(target: Vector, probability: Vector, *, bins: int = CALIBRATION_BINS) -> CalibrationBins:
    """Group predictions into bins of equal width; the last bin includes 1."""
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    filled = count > 0
    return CalibrationBins(
        predicted=(np.bincount(index, probability, minlength=bins)[filled] / count[filled]),
        observed=(np.bincount(index, target, minlength=bins)[filled] / count[filled]),
        share=count[filled] / len(index),
    )


def expected_calibration_error(target: Vector, probability: Vector, *, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between predicted and observed default rate per bin, weighted by rows (Naeini et al., 2015)."""
    grouped = calibration_bins(target, probability, bins=bins)
    return float(np.abs(grouped.predicted - grouped.observed) @ grouped.share)


def decision_threshold(target: Vector, probability: Vector) -> float:
    """The probability of default at and above which an application is declined: where KS is attained."""
    false_positive, true_positive, thresholds = roc_curve(target, probability)
    best = int((true_positive - false_positive).argmax())
    # The model contract wants a number between 0 and 1; a constant score may have its threshold at an end.
    return float(np.clip(thresholds[best], 1e-6, 1 - 1e-6))


def weighted_auc(target: Vector, score_rank: npt.NDArray[np.int64], weight: Vector) -> float:
    """ROC AUC of rows that count `weight` times; ties count half.

    Args:
        target: 0 or 1, [N].
        score_rank: Dense rank of each score from 0, equal for equal scores, [N].
        weight: How often each row counts, [N].

    Returns:
        The AUC, or NaN where one of the classes has no weight.
    """
    positive = np.bincount(score_rank, weight * target)
    negative = np.bincount(score_rank, weight * (1 - target))
    below = negative.cumsum() - negative / 2
    pairs = positive.sum() * negative.sum()
    return float(positive @ below / pairs) if pairs else float("nan")
