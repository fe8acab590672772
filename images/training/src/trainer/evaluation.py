"""How good probabilities of default are, in the measures that credit risk uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

CALIBRATION_BINS = 15
HISTOGRAM_EDGES = tuple(edge / 20 for edge in range(21))
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Metrics:
    """Measures on held-out rows: the first three higher is better, the last three lower."""

    roc_auc: float
    gini: float
    ks: float
    brier: float
    log_loss: float
    ece: float


def evaluate(default: Array, probability: Array) -> Metrics:
    """Return all measures of probabilities of default against what happened (both float32 [N])."""
    auc = float(roc_auc_score(default, probability))
    false_rate, true_rate, _ = roc_curve(default, probability)
    return Metrics(
        roc_auc=auc,
        gini=2 * auc - 1,
        ks=float(np.max(true_rate - false_rate)),
        brier=float(brier_score_loss(default, probability)),
        log_loss=float(log_loss(default, probability.astype(np.float64))),
        ece=expected_calibration_error(default, probability),
    )


def expected_calibration_error(default: Array, probability: Array) -> float:
    """Return the mean gap between predicted and observed default rates over equally wide bins, weighted by size."""
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.abs(np.bincount(bins, weights=probability - default, minlength=CALIBRATION_BINS))
    return float(gaps.sum() / len(default))


def best_threshold(default: Array, probability: Array) -> float:
    """Return the probability that parts defaulters from payers best: where the KS distance is reached."""
    false_rate, true_rate, thresholds = roc_curve(default, probability)
    return float(np.clip(thresholds[np.argmax(true_rate - false_rate)], 0.001, 0.999))
