"""The decision threshold: the probability of default from which an application is declined, and how it is chosen."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from trainer.errors import BadInputError
from trainer.evaluation.default_rates import Rate, outcomes
from trainer.export.contract import ApprovalRate, DecisionRule, ExpectedCost, Fixed, KsMaximum

Vector = npt.NDArray[np.float64]

_ALLOWED = (
    "allowed are ks-maximum, approval-rate=0.8, loss-given-default=0.45,margin=0.05, or the threshold itself, such as "
    "0.2; each number is a share above 0 and below 1, and a loss given default may be 1"
)


@dataclass(frozen=True)
class ThresholdChoice:
    """How the decision threshold is chosen.

    Attributes:
        text: The setting, as `--threshold` takes it.
        rule: The same, as the model contract states it.
        value: The threshold, if it does not depend on the data.
    """

    text: str
    rule: DecisionRule
    value: float | None = None

    def __str__(self) -> str:
        return self.text

    def find(self, target: Vector, probability: Vector, weight: Vector | None = None) -> float:
        """Return the threshold: applications are approved below it.

        Args:
            target: 1 for default, 0 for repaid, [N].
            probability: Calibrated out-of-fold probabilities of default, [N].
            weight: How many loans each row stands for, [N]; None for one each.
        """
        if self.value is not None:
            return self.value
        if isinstance(self.rule, ApprovalRate):
            return approval_rate_threshold(probability, self.rule.approval_rate, weight)
        return ks_threshold(target, probability, weight)


KS_MAXIMUM = ThresholdChoice("ks-maximum", KsMaximum())


def parse_threshold(text: str) -> ThresholdChoice:
    """Read the setting `--threshold`.

    Raises:
        BadInputError: It is none of the allowed forms; the message lists those.
    """
    if text == KS_MAXIMUM.text:
        return KS_MAXIMUM
    try:
        match sorted(_read_term(term) for term in text.split(",")):
            case [("approval-rate=", rate)]:
                return ThresholdChoice(text, ApprovalRate(approval_rate=rate))
            case [("loss-given-default=", loss), ("margin=", margin)]:
                rule = ExpectedCost(loss_given_default=loss, margin=margin)
                return ThresholdChoice(text, rule, expected_cost_threshold(loss, margin))
            case [("", value)] if 0 < value < 1:
                return ThresholdChoice(text, Fixed(), value)
    except ValueError as error:
        # It has no number where one is required, or one that the rule does not allow.
        raise BadInputError(f"--threshold {text}: {_ALLOWED}") from error
    raise BadInputError(f"--threshold {text}: {_ALLOWED}")


def _read_term(term: str) -> tuple[str, float]:
    """Read `name=number` as `name=` and the number; without a name, a number alone."""
    name, separator, number = term.rpartition("=")
    return f"{name}{separator}", float(number)


def ks_threshold(target: Vector, probability: Vector, weight: Vector | None = None) -> float:
    """Return where the distance of the two classes' distributions, Kolmogorov and Smirnov's statistic, is attained.

    That maximizes the share of defaults that are declined minus the share of repaid loans that are, whatever each of
    them costs.

    Args:
        target: 1 for default, 0 for repaid, [N]; both occur.
        probability: Probabilities of default, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    false_positive, true_positive, thresholds = roc_curve(target, probability, sample_weight=weight)
    best = int((true_positive - false_positive).argmax())
    # The model contract requires a number strictly between 0 and 1; the threshold of a constant score may be 0 or 1.
    return float(np.clip(thresholds[best], 1e-6, 1 - 1e-6))


def approval_rate_threshold(probability: Vector, rate: float, weight: Vector | None = None) -> float:
    """Return the threshold that approves a share of loans that is as close to `rate` as equal scores allow, never none.

    It lies halfway between the last score that is approved and the first that is declined (or 1, if none is), so that
    rounding moves no row across it. Of two shares that are equally close, the lower one counts.

    Args:
        probability: Probabilities of default, [N], below 1.
        rate: The share of loans to approve, above 0 and below 1.
        weight: How many loans each row stands for, [N]; None for one each.
    """
    counted = np.ones(len(probability)) if weight is None else weight
    scores, index = np.unique(probability[counted > 0], return_inverse=True)
    loans = np.bincount(index, counted[counted > 0]).cumsum()
    approved = loans / loans[-1]
    last = int(np.abs(approved - rate).argmin())
    return float((scores[last] + np.append(scores, 1.0)[last + 1]) / 2)


def expected_cost_threshold(loss_given_default: float, margin: float) -> float:
    """Return the probability of default at which a loan's expected loss equals its expected margin.

    A loan of 1 that is repaid earns the margin m, one that defaults loses l, and a declined one does neither. Approving
    pays while p * l < (1 - p) * m, so the threshold is m / (m + l): the optimum of Elkan, "The Foundations of
    Cost-Sensitive Learning" (2001), equation 2, for these costs. It requires calibrated probabilities and no data.

    Args:
        loss_given_default: The share of a loan that is lost if it defaults.
        margin: The share of a loan that it earns, after funding and costs, over its whole term, if it is repaid.
    """
    return margin / (margin + loss_given_default)


@dataclass(frozen=True)
class Decisions:
    """How a decision threshold divides rows.

    Attributes:
        approved: Outcomes of the rows below it.
        declined: Outcomes of the others.
        approval_rate: The share of loans that are approved.
    """

    approved: Rate
    declined: Rate
    approval_rate: float


def assess_decisions(
    target: Vector, probability: Vector, weight: Vector | None = None, *, threshold: float
) -> Decisions:
    """Divide rows by their decisions.

    Args:
        target: 1 for default, 0 for repaid, [N].
        probability: The model's probabilities of default, [N].
        weight: How many loans each row stands for, [N]; None for one each.
        threshold: The decision threshold.
    """
    approved = probability < threshold
    return Decisions(
        outcomes(target, approved, weight),
        outcomes(target, ~approved, weight),
        float(np.average(approved, weights=weight)),
    )
