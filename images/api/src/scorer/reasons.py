"""Which features made the probability of default what it is, against the contract's reference applicant.

The contributions are Shapley values of the log-odds, in the closed form that Kernel SHAP (Lundberg and Lee, 2017) has
on its heaviest coalitions, those of one feature and of all but one: the mean of what a feature changes when it comes
first and when it comes last, and an equal share of what is then missing from the difference to the reference. They sum
to that difference by construction and are exact wherever features interact at most in pairs. docs/scoring.md says more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.application import CodeRows, FloatRows, encode
from scorer.contract import CategoricalFeature, Contract, Feature
from scorer.scorecard import log_odds, log_odds_each, log_odds_of

# Units that a sentence reads better without.
_PURE_NUMBERS = ("", "ratio")
METHOD = "kernel-shap-pairs"
# So many patterns of features that differ from the reference are remembered, and so many values of each number.
_PATTERNS, _VALUES = 512, 4096
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


class Pattern(NamedTuple):
    """What explaining takes for all rows that differ from the reference in the same columns, and know the same of them.

    Attributes:
        columns: Those columns.
        numbers: Which numbers of each coalition are the applicant's, bool [coalitions, numeric].
        words: Which categories are, bool [coalitions, categorical].
        order: For each feature of the contract its place in `columns`, -1 where there is none.
    """

    columns: tuple[int, ...]
    numbers: npt.NDArray[np.bool_]
    words: npt.NDArray[np.bool_]
    order: tuple[int, ...]


class Question(NamedTuple):
    """A row to explain; `numeric` and `codes` are the rows to score for it, the row itself being the first."""

    numeric: FloatRows
    codes: CodeRows
    values: list[float]
    # What each column that differs changes alone, where that is known.
    alone: list[float | None]
    pattern: Pattern


class Explanation(NamedTuple):
    """A row's score and each feature's contribution to it, in the contract's order."""

    values: list[float]
    probability: float
    contributions: list[float]


class Explainer:
    """Explains rows of one model, from the model's scores of the rows that it asks for."""

    def __init__(self, contract: Contract, predict: Predict) -> None:
        """Score the reference applicant, alone and with every category in turn, once for all."""
        self._contract = contract
        self._numeric, self._codes = encode(contract, contract.reference_applicant)
        # A feature's place among the columns: the numeric ones, then the categorical ones.
        columns = [*contract.numeric, *contract.categorical]
        self._places = [columns.index(feature) for feature in contract.features]
        self._width = len(contract.numeric)
        self._usual = _values(self._numeric, self._codes)
        self._pattern_of = lru_cache(maxsize=_PATTERNS)(self._pattern)
        self.reference_probability = float(predict(self._numeric, self._codes)[0])
        self._reference = log_odds(self.reference_probability)
        # What a value changes alone, by column and value: of every category, and of numbers that came before.
        self._alone: list[dict[float, float]] = [{} for _ in contract.numeric]
        for rows in self._category_rows():
            changed = log_odds_of(predict(np.repeat(self._numeric, len(rows), axis=0), rows)) - self._reference
            self._alone.append(dict(enumerate(changed.tolist())))

    def _category_rows(self) -> list[CodeRows]:
        rows = []
        for column, feature in enumerate(self._contract.categorical):
            rows.append(np.repeat(self._codes, len(feature.categories), axis=0))
            rows[-1][:, column] = np.arange(len(feature.categories))
        return rows

    def ask(self, numeric: FloatRows, codes: CodeRows) -> Question:
        """Return the rows whose scores explain a row, at most 1 + 2 * numeric + categorical features.

        The applicant, the applicant with one feature at a time taken back, and the reference with one number at a time
        of the applicant's; only features in which they differ, and only numbers that nobody had lately.
        """
        values = _values(numeric, codes)
        different = tuple([column for column, usual in enumerate(self._usual) if values[column] != usual])
        alone = [self._alone[column].get(values[column]) for column in different]
        unknown = tuple([column for column, known in zip(different, alone, strict=True) if known is None])
        pattern = self._pattern_of(different, unknown)
        numbers = np.where(pattern.numbers, numeric, self._numeric)
        return Question(numbers, np.where(pattern.words, codes, self._codes), values, alone, pattern)

    def _pattern(self, columns: tuple[int, ...], unknown: tuple[int, ...]) -> Pattern:
        own = np.eye(len(self._usual), dtype=bool)
        taken = np.concatenate([own[:1] | True, ~own[list(columns)], own[list(unknown)]])
        order = tuple(columns.index(place) if place in columns else -1 for place in self._places)
        return Pattern(columns, taken[:, : self._width], taken[:, self._width :], order)

    def explain(self, question: Question, scores: npt.NDArray[np.float32]) -> Explanation:
        """Explain a row from the scores of the question's rows."""
        values, columns = question.values, question.pattern.columns
        whole, *others = log_odds_each(scores.tolist())
        last = [whole - other for other in others[: len(columns)]]
        new = iter(others[len(columns) :])
        first = [
            self._remember(column, values[column], next(new) - self._reference) if known is None else known
            for column, known in zip(columns, question.alone, strict=True)
        ]
        # Behind them stands what an order of -1 finds.
        found = [*shapley_of_pairs(first, last, whole - self._reference), 0.0]
        return Explanation(values, float(scores[0]), [found[place] for place in question.pattern.order])

    def _remember(self, column: int, value: float, changed: float) -> float:
        """Keep what a number changes alone: scores and rates come again, and then cost no row."""
        known = self._alone[column]
        if len(known) >= _VALUES:
            del known[next(iter(known))]
        known[value] = changed
        return changed

    def reasons(self, explanation: Explanation, most: int, points_per_log_odds: float) -> tuple[Reason, ...]:
        """Return the features that harmed most, at most so many, none of them protected."""
        found: list[Reason] = []
        contributions = explanation.contributions
        for index in sorted(range(len(contributions)), key=contributions.__getitem__, reverse=True):
            feature, contribution = self._contract.features[index], contributions[index]
            if contribution <= 0 or len(found) == most:
                break
            if not feature.protected:
                column = self._places[index]
                sentence = _sentence(feature, explanation.values[column], self._usual[column])
                points = -contribution * points_per_log_odds
                found.append(Reason(feature.name, feature.reason_code, sentence, contribution, points))
        return tuple(found)

    def audit(self, explanation: Explanation) -> Audit:
        """Return what the explanation rests on, protected attributes included."""
        contributions = [
            Contribution(feature.name, value, feature.protected)
            for feature, value in zip(self._contract.features, explanation.contributions, strict=True)
        ]
        difference = log_odds(explanation.probability) - self._reference
        return Audit(METHOD, self.reference_probability, difference, tuple(contributions))


def _values(numeric: FloatRows, codes: CodeRows) -> list[float]:
    """Return one row's columns; Python's own numbers are quicker to look at one by one."""
    return [*numeric[0].tolist(), *codes[0].tolist()]


def _sentence(feature: Feature, given: float, usual: float) -> str:
    about = feature.description or feature.name
    if isinstance(feature, CategoricalFeature):
        return f"{about} is {feature.categories[int(given)]}; the reference is {feature.categories[int(usual)]}"
    relation = "above" if given > usual else "below"
    unit = f" {feature.unit}" if feature.unit not in _PURE_NUMBERS else ""
    return f"{about} is {_plain(given)}{unit}, {relation} the reference of {_plain(usual)}"


def shapley_of_pairs(first: Sequence[float], last: Sequence[float], difference: float) -> list[float]:
    """Return contributions, one for each player, that sum to `difference`.

    Args:
        first: What each player changes when it joins nobody.
        last: What each player changes when it joins all others.
        difference: What all players together change.
    """
    if not first:
        return []
    middle = [(one + other) / 2 for one, other in zip(first, last, strict=True)]
    missing = (difference - sum(middle)) / len(middle)
    return [value + missing for value in middle]


def _plain(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.3g}"
