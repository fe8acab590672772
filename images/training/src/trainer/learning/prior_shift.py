"""Shifts of the log-odds between shares of defaults: class weights are taken back, and a default rate is met.

If the share of defaults changes and nothing else does, the odds of every application change by the same factor
(Saerens, Latinne and Decaestecker, 2002), so their logarithms move by the same distance, and no ranking changes.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit

from trainer.learning.calibration import Calibration, Limits, calibrate, find_limits

Vector = npt.NDArray[np.float64]
ClassWeight = float | Literal["balanced"]


def odds_factor(setting: ClassWeight, target: Vector, weight: Vector | None = None) -> float:
    """Return how much more a default counts in training than a repaid loan.

    The network then learns odds that are larger by this factor; its logarithm is taken from the log-odds afterwards
    (prior correction: King and Zeng, 2001; Elkan, 2001).

    Args:
        setting: That number, or `balanced`: all defaults together count as much as all repaid loans.
        target: 1 for default, 0 for repaid, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    if setting != "balanced":
        return float(setting)
    rate = float(np.average(target, weights=weight))
    return (1 - rate) / rate


@dataclass(frozen=True)
class RowWeights:
    """What rows count, and what class weights change.

    Attributes:
        training: In the training of heads, with class weights, [N]; their mean is 1.
        validation: Without class weights, [N]; their mean is 1.
        shift: What class weights add to the log-odds of default.
        default_rate: The weighted share of defaults in training.
    """

    training: Vector
    validation: Vector
    shift: float
    default_rate: float

    @classmethod
    def of(cls, target: npt.NDArray[np.float32], weight: Vector | None, setting: ClassWeight) -> Self:
        """Return the weights of rows with these outcomes, [N], and weights, [N] or None for equal ones."""
        count = np.ones(len(target)) if weight is None else weight / weight.mean()
        factor = odds_factor(setting, target.astype(np.float64), weight)
        training = count * np.where(target == 1, factor, 1.0)
        return cls(
            training=training / training.mean(),
            validation=count,
            shift=math.log(factor),
            default_rate=float(np.average(target, weights=training)),
        )


@dataclass(frozen=True)
class Calibrated:
    """How the heads' mean logit becomes the probability of default that a model answers.

    Attributes:
        calibration: Slope and intercept, the shift included.
        limits: The lowest and the highest probability, shifted alike.
        shift: The distance in log-odds to the calibration at the training data's own default rate; 0 without another.
    """

    calibration: Calibration
    limits: Limits
    shift: float = 0.0

    def apply(self, logit_: Vector) -> Vector:
        """Return the probabilities of default that the model answers for raw logits, [N]."""
        return self.limits.apply(self.calibration.apply(logit_))

    def before_shift(self, probability: Vector) -> Vector:
        """Return answered probabilities, [N], at the training data's own default rate."""
        return np.asarray(expit(logit(probability) - self.shift), dtype=np.float64) if self.shift else probability


def calibrate_model(
    logit_: Vector, target: Vector, weight: Vector | None = None, *, pd_floor: float, default_rate: float | None
) -> Calibrated:
    """Calibrate on out-of-fold predictions; with a default rate, through the cycle.

    The data's own default rate is that of its time. Capital rules (Basel Framework, CRE36) ask for the long-run average
    instead: the log-odds are shifted until the rows' mean probability is that rate (Tasche, "The art of probability-of-
    default curve calibration", 2013: scaled likelihood ratio).

    Args:
        logit_: Out-of-fold logits, [N].
        target: 1 for default, 0 for repaid, [N].
        weight: How many loans each row stands for, [N]; None for one each.
        pd_floor: The lowest probability to answer, however low the data would allow.
        default_rate: The weighted mean of the probabilities that the model answers for these rows, above `pd_floor`;
            None for the data's own.
    """
    calibration = calibrate(logit_, target, weight)
    if default_rate is None:
        return Calibrated(calibration, find_limits(logit_, target, weight, minimum=pd_floor))
    limits = find_limits(logit_, target, weight)
    shift = shift_to_rate(limits.apply(calibration.apply(logit_)), weight, default_rate=default_rate, pd_floor=pd_floor)
    return Calibrated(
        Calibration(calibration.slope, calibration.intercept + shift),
        Limits(max(_shifted(limits.floor, shift), pd_floor), _shifted(limits.ceiling, shift)),
        shift,
    )


def shift_to_rate(probability: Vector, weight: Vector | None, *, default_rate: float, pd_floor: float = 0.0) -> float:
    """Return the shift of the log-odds with which the mean probability is the default rate.

    Args:
        probability: Between 0 and 1, both excluded, [N].
        weight: The rows' weights in the mean, [N]; None for equal ones.
        default_rate: The mean to reach, above `pd_floor`.
        pd_floor: Probabilities below it are raised to it after the shift.
    """
    log_odds = logit(probability)

    def excess(shift: float) -> float:
        return float(np.average(np.maximum(expit(log_odds + shift), pd_floor), weights=weight)) - default_rate

    # At one end no row is above the rate, at the other none is below it. The mean rises in between.
    ends = logit(default_rate) - log_odds.max(), logit(default_rate) - log_odds.min()
    return float(brentq(excess, ends[0] - 1e-3, ends[1] + 1e-3, xtol=1e-12))


def _shifted(probability: float, shift: float) -> float:
    return float(expit(logit(probability) + shift))
