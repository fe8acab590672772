"""Which features made the probability of default what it is, against the contract's reference applicant.

The contributions are Shapley values of the log-odds, in the closed form that Kernel SHAP (Lundberg and Lee, 2017) has
on its heaviest coalitions, those of one feature and of all but one: the mean of what a feature changes when it comes
first and when it comes last, and an equal share of what is then missing from the difference to the reference. They sum
to that difference by construction and are exact wherever features interact at most in pairs. docs/scoring.md says more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.application import CodeRows, FloatRows, encode
from scorer.contract import CategoricalFeature, Contract, NumericFeature
from scorer.scorecard import log_odds, log_odds_of

# Units that a sentence reads better without.
_PURE_NUMBERS = ("", "ratio")
METHOD = "kernel-shap-pairs"
Predict = Callable[[FloatRows, CodeRows], npt.NDArray[np.float32]]


class Reason(msgspec.Struct, frozen=True):
    """A principal reason; `contribution` is in log-odds of default, above zero because it harmed."""

    feature: str
    code: str
    reason: str
    contribution: float
    points: float


class Contribution(msgspec.Struct, frozen=True):
    """What one feature added to the log-odds of default."""

    feature: str
    contribution: float
    protected: bool


class Audit(msgspec.Struct, frozen=True):
    """How the reasons came about; the contributions of all features sum to `log_odds_difference`."""

    method: str
    reference_probability_of_default: float
    log_odds_difference: float
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True)
class Explanation:
    """A row's score and each feature's contribution to it, float64 [features] in the contract's order."""

    probability: float
    contributions: npt.NDArray[np.float64]


class Explainer:
    """Explains rows of one model."""

    def __init__(self, contract: Contract, predict: Predict) -> None:
        """Score the reference applicant, alone and with every category in turn, once for all."""
        self._contract, self._predict = contract, predict
        self._numeric, self._codes = encode(contract, contract.reference_applicant)
        # A feature's place among the columns: the numeric ones, then the categorical ones.
        columns = [*contract.numeric, *contract.categorical]
        self._places = np.array([columns.index(feature) for feature in contract.features])
        self._own = np.eye(len(columns), dtype=bool)
        self.reference_probability = float(predict(self._numeric, self._codes)[0])
        self._reference = log_odds(self.reference_probability)
        self._first = [
            log_odds_of(predict(np.repeat(self._numeric, len(rows), axis=0), rows)) - self._reference
            for rows in self._category_rows()
        ]

    def _category_rows(self) -> list[CodeRows]:
        rows = []
        for column, feature in enumerate(self._contract.categorical):
            rows.append(np.repeat(self._codes, len(feature.categories), axis=0))
            rows[-1][:, column] = np.arange(len(feature.categories))
        return rows

    def explain(self, numeric: FloatRows, codes: CodeRows) -> Explanation:
        """Score and explain one row with one call of the model, of at most 1 + 2 * numeric + categorical rows."""
        width = numeric.shape[1]
        differs = np.concatenate([numeric[0] != self._numeric[0], codes[0] != self._codes[0]])
        active = np.flatnonzero(differs)
        alone = active[active < width]
        # First the applicant with one feature taken back; then the reference with one number of the applicant's.
        taken = np.concatenate([self._own[:1] | True, ~self._own[active], self._own[alone]])
        scores = self._predict(
            np.where(taken[:, :width], numeric, self._numeric), np.where(taken[:, width:], codes, self._codes)
        )
        values = log_odds_of(scores)
        last = values[0] - values[1 : len(active) + 1]
        first = np.empty(len(active))
        first[: len(alone)] = values[len(active) + 1 :] - self._reference
        for index in range(len(alone), len(active)):
            column = active[index] - width
            first[index] = self._first[column][codes[0, column]]
        by_column = np.zeros(len(differs))
        by_column[active] = shapley_of_pairs(first, last, values[0] - self._reference)
        return Explanation(float(scores[0]), by_column[self._places])

    def reasons(
        self, explanation: Explanation, numeric: FloatRows, codes: CodeRows, most: int, points_per_log_odds: float
    ) -> tuple[Reason, ...]:
        """Return the features that harmed most, at most so many, none of them protected."""
        found: list[Reason] = []
        for index in np.argsort(-explanation.contributions, kind="stable"):
            feature, contribution = self._contract.features[index], float(explanation.contributions[index])
            if contribution <= 0 or len(found) == most:
                break
            if not feature.protected:
                sentence = self._sentence(feature, int(self._places[index]), numeric, codes)
                points = -contribution * points_per_log_odds
                found.append(Reason(feature.name, feature.reason_code, sentence, contribution, points))
        return tuple(found)

    def audit(self, explanation: Explanation) -> Audit:
        """Return what the explanation rests on, protected attributes included."""
        contributions = tuple(
            Contribution(feature.name, value, feature.protected)
            for feature, value in zip(self._contract.features, explanation.contributions.tolist(), strict=True)
        )
        difference = log_odds(explanation.probability) - self._reference
        return Audit(METHOD, self.reference_probability, difference, contributions)

    def _sentence(
        self, feature: NumericFeature | CategoricalFeature, column: int, numeric: FloatRows, codes: CodeRows
    ) -> str:
        about = feature.description or feature.name
        if isinstance(feature, CategoricalFeature):
            column -= numeric.shape[1]
            given, usual = codes[0, column], self._codes[0, column]
            return f"{about} is {feature.categories[given]}; the reference is {feature.categories[usual]}"
        value, usual = numeric[0, column], self._numeric[0, column]
        relation = "above" if value > usual else "below"
        unit = f" {feature.unit}" if feature.unit not in _PURE_NUMBERS else ""
        return f"{about} is {_plain(value)}{unit}, {relation} the reference of {_plain(usual)}"


def shapley_of_pairs(
    first: npt.NDArray[np.float64], last: npt.NDArray[np.float64], difference: float
) -> npt.NDArray[np.float64]:
    """Return contributions, float64 [players], that sum to `difference`.

    Args:
        first: What each player changes when it joins nobody, float64 [players].
        last: What each player changes when it joins all others, float64 [players].
        difference: What all players together change.
    """
    if not len(first):
        return first
    middle = (first + last) / 2
    return np.asarray(middle + (difference - middle.sum()) / len(middle))


def _plain(value: np.float32) -> str:
    return f"{float(value):,.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{float(value):.3g}"
