"""Plots for the run: ROC, calibration, score distribution and learning curve."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from trainer.evaluation.metrics import calibration_bins
from trainer.learning.state import EpochReport

_POINTS = 2_000

Vector = npt.NDArray[np.float64]


def save_plots(
    target: Vector, probability: Vector, history: tuple[EpochReport, ...], folder: Path, weight: Vector | None = None
) -> None:
    """Write four PNG files to `folder`; target, probability and weight are those of the test rows, [N]."""
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 100}):
        _roc(target, probability, weight).savefig(folder / "roc.png")
        _calibration(target, probability, weight).savefig(folder / "calibration.png")
        _scores(target, probability).savefig(folder / "score_distribution.png")
        _learning(history).savefig(folder / "learning_curve.png")


def _roc(target: Vector, probability: Vector, weight: Vector | None) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    false_positive, true_positive, _ = roc_curve(target, probability, sample_weight=weight)
    # A curve of millions of points looks no different, and takes minutes to draw.
    shown = np.unique(np.linspace(0, len(false_positive) - 1, _POINTS).astype(np.int64))
    axes.plot(false_positive[shown], true_positive[shown])
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(title="ROC on the test rows", xlabel="false positive rate", ylabel="true positive rate")
    return figure


def _calibration(target: Vector, probability: Vector, weight: Vector | None) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    bins = calibration_bins(target, probability, weight)
    axes.plot(bins.predicted, bins.observed, marker="o")
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(title="Calibration on the test rows", xlabel="predicted", ylabel="observed default rate")
    return figure


def _scores(target: Vector, probability: Vector) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    bins = np.linspace(0.0, 1.0, 41).tolist()
    axes.hist([probability[target == 0], probability[target == 1]], bins=bins, label=["repaid", "defaulted"])
    axes.set(title="Scores on the test rows", xlabel="probability of default", ylabel="rows", yscale="log")
    axes.legend()
    return figure


def _learning(history: tuple[EpochReport, ...]) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    epochs = [report.epoch + 1 for report in history]
    axes.plot(epochs, [report.train_loss for report in history], label="training")
    axes.plot(epochs, [report.validation_loss for report in history], label="validation")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="log loss")
    axes.legend()
    return figure
