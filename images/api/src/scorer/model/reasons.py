"""Which features made the probability of default what it is, against the contract's reference applicant.

The contributions are Shapley values of the log-odds, in the closed form that Kernel SHAP (Lundberg and Lee, 2017) has
on its heaviest coalitions, those of one feature and of all but one: the mean of what a feature changes when it comes
first and when it comes last, and an equal share of what is then missing from the difference to the reference. They sum
to that difference by construction and are exact wherever features interact at most in pairs. docs/scoring.md says more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.applications.decoder import CodeRows, FloatRows, encode
from scorer.contract import CategoricalFeature, Contract, Feature
from scorer.model.scorecard import log_odds, log_odds_of

# Units that a sentence reads better without.
_PURE_NUMBERS = ("", "ratio")
METHOD = "kernel-shap-pairs"
Doubles = npt.NDArray[np.float64]
Predict = Callable[[FloatRows, CodeRows], npt.NDArray[np.float32]]


# gc=False: none of these can be part of a cycle, and there are sixteen of them to an answer.
class Reason(msgspec.Struct, frozen=True, gc=False):
    """A principal reason; `contribution` is in log-odds of default, above zero because it harmed."""

    feature: str
    code: str
    reason: str
    contribution: float
    points: float


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """What one feature added to the log-odds of default."""

    feature: str
    contribution: float
    protected: bool


class Audit(msgspec.Struct, frozen=True, gc=False):
    """How the reasons came about; the contributions of all features sum to `log_odds_difference`."""

    method: str
    reference_probability_of_default: float
    log_odds_difference: float
    contributions: tuple[Contribution, ...]


class Explanation(NamedTuple):
    """A row's score, and each feature's value and contribution to it, in the contract's order.

    `difference` is the row's log-odds of default less the reference's: what the contributions sum to.
    """

    probability: float
    difference: float
    values: list[float]
    contributions: list[float]


class Explainer:
    """Explains rows of one model, from the model's scores of rows that stand between them and the reference."""

    def __init__(self, contract: Contract, predict: Predict) -> None:
        """Score the reference applicant, alone and with every category in turn, once for all."""
        self._contract, self._predict = contract, predict
        self._numeric, self._codes = encode(contract, contract.reference_applicant)
        # A feature's place among the columns: the numeric ones, then the categorical ones.
        columns = [*contract.numeric, *contract.categorical]
        self._places = [columns.index(feature) for feature in contract.features]
        self._width = len(contract.numeric)
        self._names = [feature.name for feature in contract.features]
        self._protected = [feature.protected for feature in contract.features]
        usual = [*self._numeric[0].tolist(), *self._codes[0].tolist()]
        self._sentences = [
            _sentences(feature, usual[place]) for feature, place in zip(contract.features, self._places, strict=True)
        ]
        # Whose each value of a coalition is: the applicant's own in the first row, then all but one, then one number.
        own = np.eye(len(columns), dtype=bool)
        taken = np.concatenate([own.any(0, keepdims=True), ~own, own[: self._width]])
        self._numbers, self._words = taken[:, : self._width], taken[:, self._width :]
        # What every category changes alone, one feature's after the other's.
        counts = [len(feature.categories) for feature in contract.categorical]
        self._offsets = np.cumsum([0, *counts], dtype=np.int64)[:-1]
        rows = np.concatenate([self._codes, *self._category_rows()])
        scores = predict(np.repeat(self._numeric, len(rows), axis=0), rows)
        self.reference_probability = float(scores[0])
        self._reference = log_odds(self.reference_probability)
        self._alone = log_odds_of(scores[1:]) - self._reference

    def _category_rows(self) -> list[CodeRows]:
        rows = []
        for column, feature in enumerate(self._contract.categorical):
            rows.append(np.repeat(self._codes, len(feature.categories), axis=0))
            rows[-1][:, column] = np.arange(len(feature.categories))
        return rows

    def explain(self, numeric: FloatRows, codes: CodeRows) -> list[Explanation]:
        """Explain N rows by one call of the model.

        It scores the applicant, the applicant with one feature at a time taken back to the reference, and the reference
        with one of the applicant's numbers at a time: at most 1 + 2 * numeric + categorical rows for each applicant,
        and none for features in which the applicant is like the reference.

        Args:
            numeric: float32 [N, numeric features].
            codes: int64 [N, categorical features].
        """
        different = np.concatenate([numeric != self._numeric, codes != self._codes], axis=1)
        itself = np.ones((len(numeric), 1), dtype=bool)
        asked = np.concatenate([itself, different, different[:, : self._width]], axis=1)
        numbers = np.where(self._numbers, numeric[:, None], self._numeric)[asked]
        words = np.where(self._words, codes[:, None], self._codes)[asked]
        # Where a feature is like the reference's nothing is asked, and nothing is used.
        scores = np.full(asked.shape, self.reference_probability, np.float32)
        scores[asked] = self._predict(numbers, words)
        found, features = log_odds_of(scores), different.shape[1]
        whole, without, alone = found[:, 0], found[:, 1 : features + 1], found[:, features + 1 :]
        first = np.concatenate([alone - self._reference, self._alone[codes + self._offsets]], axis=1)
        difference = whole - self._reference
        contributions = shapley_of_pairs(first, whole[:, None] - without, difference, different)[:, self._places]
        values = np.concatenate([numeric, codes], axis=1, dtype=np.float64)[:, self._places]
        columns = (scores[:, 0], difference, values, contributions)
        return [*map(Explanation, *(column.tolist() for column in columns))]

    def reasons(self, explanation: Explanation, most: int, points_per_log_odds: float) -> tuple[Reason, ...]:
        """Return the features that harmed most, at most so many, none of them protected."""
        contributions = explanation.contributions
        harmful = [place for place, value in enumerate(contributions) if value > 0 and not self._protected[place]]
        harmful.sort(key=contributions.__getitem__, reverse=True)
        return tuple([self._reason(explanation, index, points_per_log_odds) for index in harmful[:most]])

    def _reason(self, explanation: Explanation, index: int, points_per_log_odds: float) -> Reason:
        feature, contribution = self._contract.features[index], explanation.contributions[index]
        sentence = self._sentences[index](explanation.values[index])
        return Reason(feature.name, feature.reason_code, sentence, contribution, -contribution * points_per_log_odds)

    def audit(self, explanation: Explanation) -> Audit:
        """Return what the explanation rests on, protected attributes included."""
        contributions = tuple(map(Contribution, self._names, explanation.contributions, self._protected))
        return Audit(METHOD, self.reference_probability, explanation.difference, contributions)


def _sentences(feature: Feature, usual: float) -> Callable[[float], str]:
    """Return what says in words how a value of a feature stands to the reference's."""
    about = feature.description or feature.name
    if isinstance(feature, CategoricalFeature):
        reference = feature.categories[int(usual)]
        said = [f"{about} is {category}; the reference is {reference}" for category in feature.categories]
        return lambda given: said[int(given)]
    unit = f" {feature.unit}" if feature.unit not in _PURE_NUMBERS else ""
    above, below = (f"{unit}, {relation} the reference of {_plain(usual)}" for relation in ("above", "below"))
    return lambda given: f"{about} is {_plain(given)}{above if given > usual else below}"


def shapley_of_pairs(first: Doubles, last: Doubles, difference: Doubles, playing: npt.NDArray[np.bool_]) -> Doubles:
    """Return contributions, float64 [N, players], that sum to `difference` in each of N games.

    Args:
        first: What each player changes when it joins nobody, [N, players].
        last: What each player changes when it joins all others, [N, players].
        difference: What all players together change, [N].
        playing: Which players there are in a game; the others contribute nothing, [N, players].
    """
    middle = np.where(playing, (first + last) / 2, 0.0)
    missing = (difference - middle.sum(1)) / np.maximum(playing.sum(1), 1)
    return np.where(playing, middle + missing[:, None], 0.0)


def _plain(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.3g}"
