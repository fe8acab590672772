"""Reasons: how much each feature contributed to a probability of default, against the contract's reference applicant.

Contributions are Shapley values of the log-odds, in the closed form of Kernel SHAP (Lundberg and Lee, 2017) restricted
to its heaviest coalitions, those of one feature and of all but one: the mean of what a feature changes if it joins
first and if it joins last, plus an equal share of what is then missing from the difference to the reference. They sum
to that difference by construction, and are exact if features interact at most in pairs. If the network promises in
which direction it follows a feature, the contribution never has the other sign. docs/scoring.md has details.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from scorer.answers import Audit, Contribution, Reason
from scorer.applications.features import encode
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import CategoricalFeature, Contract, Feature
from scorer.model.mixtures import Mixtures, Predict, WholeMixtures
from scorer.model.scorecard import log_odds, log_odds_of

# Units that sentences leave out.
_PURE_NUMBERS = ("", "ratio")
METHOD = "kernel-shap-pairs"
# From so many rows on, finding the values that occur several times costs less than scoring each of them again.
_MANY_ROWS = 256
# What `keep_signs` holds at once grows with the rows times the square of the features.
_SIGN_ROWS = 512
_DIRECTIONS = {"increasing": 1, "decreasing": -1, None: 0}
Doubles = npt.NDArray[np.float64]


class Explanation(NamedTuple):
    """A row's score, and each feature's value and contribution to it, in the contract's order.

    `difference` is the row's log-odds of default minus the reference's; the contributions sum to it.
    """

    probability: float
    difference: float
    values: list[float]
    contributions: list[float]


class Attributions(NamedTuple):
    """N rows' scores, and each feature's value and contribution to them, in the contract's order.

    Attributes:
        probabilities: float32 [N].
        differences: The rows' log-odds of default minus the reference's, float64 [N].
        values: float64 [N, features].
        contributions: float64 [N, features]; each row's sum to its difference.
    """

    probabilities: npt.NDArray[np.float32]
    differences: Doubles
    values: Doubles
    contributions: Doubles


class Explainer:
    """Explains rows of one model by scoring mixtures of each row and the reference applicant."""

    def __init__(self, contract: Contract, predict: Predict, mixtures: Mixtures | None = None) -> None:
        """Score the reference applicant once, as it is and with each code of each categorical feature.

        Args:
            contract: Describes the features and the reference applicant.
            predict: Scores rows.
            mixtures: Scores mixtures; `predict` does it if there is none.
        """
        self._contract = contract
        self._numeric, self._codes = encode(contract, contract.reference_applicant)
        # Each feature's column: numeric features come first, then categorical ones.
        columns: list[Feature] = [*contract.numeric, *contract.categorical]
        self._columns = [columns.index(feature) for feature in contract.features]
        self._width = len(contract.numeric)
        self._directions = np.array([_DIRECTIONS[feature.monotonic or None] for feature in columns])
        # Larger codes mean missing or other, which are outside of the order.
        self._counts = np.array([len(feature.categories) for feature in contract.categorical], np.int64)
        self._names = [feature.name for feature in contract.features]
        self._protected = [feature.protected for feature in contract.features]
        reference = [*self._numeric[0].tolist(), *self._codes[0].tolist()]
        self._sentences = [
            _sentences(feature, reference[column])
            for feature, column in zip(contract.features, self._columns, strict=True)
        ]
        self._mixtures = mixtures or WholeMixtures(predict, self._numeric, self._codes)
        # What each code changes on its own, feature after feature.
        counts = list(map(len, map(codes_of, contract.categorical)))
        self._offsets = np.cumsum([0, *counts], dtype=np.int64)[:-1]
        rows = np.concatenate([self._codes, *self._category_rows()])
        scores = predict(np.repeat(self._numeric, len(rows), axis=0), rows)
        self.reference_probability = float(scores[0])
        self._reference = log_odds(self.reference_probability)
        self._alone = log_odds_of(scores[1:]) - self._reference

    def _category_rows(self) -> list[CodeRows]:
        rows = []
        for column, feature in enumerate(self._contract.categorical):
            codes = codes_of(feature)
            rows.append(np.repeat(self._codes, len(codes), axis=0))
            rows[-1][:, column] = codes
        return rows

    def explain(self, numeric: FloatRows, codes: CodeRows) -> list[Explanation]:
        """Explain N rows, one by one what `attribute` returns of them."""
        return [*map(Explanation, *(column.tolist() for column in self.attribute(numeric, codes)))]

    def attribute(
        self, numeric: FloatRows, codes: CodeRows, probabilities: npt.NDArray[np.float32] | None = None
    ) -> Attributions:
        """Attribute N rows' scores to their features by one call of the model.

        It scores the applicant, the applicant with one feature at a time replaced by the reference's value, and the
        reference with one numeric value at a time replaced by the applicant's: at most 1 + 2 * numeric + categorical
        rows per applicant, and none for features in which the applicant equals the reference.

        Args:
            numeric: float32 [N, numeric features], NaN for missing values.
            codes: int64 [N, categorical features].
            probabilities: The rows' scores if they are known, float32 [N].
        """
        # NaN differs from every number; the reference's values are never missing.
        different = np.concatenate([numeric != self._numeric, codes != self._codes], axis=1)
        itself, features = np.full((len(numeric), 1), probabilities is None), different.shape[1]
        needed = np.concatenate([itself, different, different[:, : self._width]], axis=1)
        if repeated := len(numeric) >= _MANY_ROWS:
            firsts, places = _first_of_each(numeric)
            needed[:, features + 1 :] &= firsts
        # If a feature equals the reference's, its mixtures are not scored, and not used.
        scores = self._mixtures.score(numeric, codes, needed)
        if probabilities is not None:
            scores[:, 0] = probabilities
        if repeated:
            scores[:, features + 1 :] = np.take_along_axis(scores[:, features + 1 :], places, axis=0)
        found = log_odds_of(scores)
        whole, without, alone = found[:, 0], found[:, 1 : features + 1], found[:, features + 1 :]
        first = np.concatenate([alone - self._reference, self._alone[codes + self._offsets]], axis=1)
        difference = whole - self._reference
        contributions = shapley_of_pairs(first, whole[:, None] - without, difference, different)
        if self._directions.any():
            contributions = keep_signs(contributions, self._signs(numeric, codes), difference, different)
        contributions = contributions[:, self._columns]
        values = np.concatenate([numeric, codes], axis=1, dtype=np.float64)[:, self._columns]
        return Attributions(scores[:, 0], difference, values, contributions)

    def _signs(self, numeric: FloatRows, codes: CodeRows) -> npt.NDArray[np.float64]:
        """Return 1 where a value can only raise the risk, -1 where it can only lower it, else 0; [N, columns]."""
        known = codes < self._counts
        # No number is above or below NaN.
        above = np.concatenate([numeric > self._numeric, (codes > self._codes) & known], axis=1)
        below = np.concatenate([numeric < self._numeric, codes < self._codes], axis=1)
        return np.asarray(self._directions * (above.astype(np.float64) - below))

    def reasons(self, explanation: Explanation, most: int, points_per_log_odds: float) -> tuple[Reason, ...]:
        """Return at most `most` features that raised the risk, most harmful first; protected ones are left out."""
        harmful = self._harmful(explanation)
        return tuple([self._reason(explanation, index, points_per_log_odds) for index in harmful[:most]])

    def principal(self, explanation: Explanation) -> str | None:
        """Return the code of the most harmful reason, None if no feature raised the risk."""
        return next(iter(self.codes(explanation, 1)), None)

    def codes(self, explanation: Explanation, most: int) -> list[str]:
        """Return the codes of what `reasons` returns."""
        return [self._contract.features[index].reason_code for index in self._harmful(explanation)[:most]]

    def most_harmful(
        self, attributions: Attributions, most: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the features whose codes `codes` returns of each row, and how many each row has, int64 [N].

        The features are in one array, int64 [sum of the numbers], row after row.
        """
        harm = np.where(np.array(self._protected), 0.0, attributions.contributions)
        order = np.argsort(-harm, axis=1, kind="stable")[:, :most]
        counts = np.minimum((harm > 0).sum(1), most)
        return order[np.arange(order.shape[1]) < counts[:, None]], counts

    def _harmful(self, explanation: Explanation) -> list[int]:
        """Return the features that raised the risk, most harmful first."""
        contributions = explanation.contributions
        harmful = [at for at, value in enumerate(contributions) if value > 0 and not self._protected[at]]
        harmful.sort(key=contributions.__getitem__, reverse=True)
        return harmful

    def _reason(self, explanation: Explanation, index: int, points_per_log_odds: float) -> Reason:
        feature, contribution = self._contract.features[index], explanation.contributions[index]
        value, points = explanation.values[index], -contribution * points_per_log_odds
        sentence = self._sentences[index](value)
        missing: Literal[True] | UnsetType = True if _is_missing(feature, value) else UNSET
        notice: str | UnsetType = feature.adverse_action or UNSET
        # What a text says of a value is not true of its absence.
        if notice and missing:
            notice = f"{feature.description or feature.name} was not provided"
        return Reason(feature.name, feature.reason_code, sentence, contribution, points, missing, notice)

    def audit(self, explanation: Explanation) -> Audit:
        """Return how the reasons were computed, including the contributions of protected attributes."""
        contributions = tuple(map(Contribution, self._names, explanation.contributions, self._protected))
        return Audit(METHOD, self.reference_probability, explanation.difference, contributions)


def _first_of_each(numeric: FloatRows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return where each column's values occur first, bool [N, columns], and in which row each one does, likewise."""
    firsts, places = np.zeros(numeric.shape, dtype=bool), np.zeros(numeric.shape, np.int64)
    for column in range(numeric.shape[1]):
        _, first, values = np.unique(numeric[:, column], return_index=True, return_inverse=True)
        firsts[first, column] = True
        places[:, column] = first[values]
    return firsts, places


def codes_of(feature: CategoricalFeature) -> list[int]:
    """Return the codes of a feature by themselves; one that does not occur is replaced by the first."""
    codes = list(range(len(feature.categories)))
    if feature.missing or feature.other:
        codes += [feature.missing_code if feature.missing else 0]
    if feature.other:
        codes += [feature.other_code]
    return codes


def _is_missing(feature: Feature, value: float) -> bool:
    """Say whether the model's input for a feature means missing."""
    if not feature.missing:
        return False
    return value == feature.missing_code if isinstance(feature, CategoricalFeature) else math.isnan(value)


def _sentences(feature: Feature, usual: float) -> Callable[[float], str]:
    """Return a function that compares a feature's value with the reference's in words."""
    about = feature.description or feature.name
    if isinstance(feature, CategoricalFeature):
        end = f"; the reference is {feature.categories[int(usual)]}"
        values = [*feature.categories, "not provided", "none of the model's categories"]
        said = [f"{about} is {value}{end}" for value in values]
        return lambda given: said[int(given)]
    unit = f" {feature.unit}" if feature.unit not in _PURE_NUMBERS else ""
    above, below = (f"{unit}, {relation} the reference of {_plain(usual)}" for relation in ("above", "below"))

    def compared(given: float) -> str:
        return f"{about} is {_plain(given)}{above if given > usual else below}"

    absent = f"{about} is not provided; the reference is {_plain(usual)}{unit}"
    return (lambda given: absent if math.isnan(given) else compared(given)) if feature.missing else compared


def shapley_of_pairs(first: Doubles, last: Doubles, difference: Doubles, playing: npt.NDArray[np.bool_]) -> Doubles:
    """Return contributions, float64 [N, players], that sum to `difference` in each of N games.

    Args:
        first: What each player changes by joining an empty coalition, [N, players].
        last: What each player changes by joining all others, [N, players].
        difference: What all players change together, [N].
        playing: Which players take part in a game; the others contribute nothing, [N, players].
    """
    middle = np.where(playing, (first + last) / 2, 0.0)
    missing = (difference - middle.sum(1)) / np.maximum(playing.sum(1), 1)
    return np.where(playing, middle + missing[:, None], 0.0)


def keep_signs(contributions: Doubles, signs: Doubles, difference: Doubles, playing: npt.NDArray[np.bool_]) -> Doubles:
    """Return the nearest contributions with the same sums of which none contradicts its sign.

    Exact Shapley values of a model that is monotonic in a feature have the sign of what its value does to the risk, so
    the nearest ones by Euclidean distance are never further from the exact ones. They differ by one amount from the
    given ones, or are zero (as in the projection onto the simplex of Duchi et al., 2008).

    Args:
        contributions: float64 [N, players], zero for players that take no part.
        signs: 1 where a contribution must not be below zero, -1 where it must not be above it, else 0; [N, players].
        difference: What the contributions of each game must sum to, [N].
        playing: Which players take part in a game, [N, players].
    """
    rows = (contributions * signs < 0).any(1)
    if not rows.any():
        return contributions
    given, sign, total, taking_part = contributions[rows], signs[rows], difference[rows], playing[rows]
    if len(given) > _SIGN_ROWS:
        kept = contributions.copy()
        parts = [slice(at, at + _SIGN_ROWS) for at in range(0, len(given), _SIGN_ROWS)]
        kept[rows] = np.concatenate([keep_signs(given[at], sign[at], total[at], taking_part[at]) for at in parts])
        return kept
    # The sum rises with the amount, and changes its slope only where a contribution becomes zero.
    amounts = np.sort(-given, axis=1)
    moved = given[:, None] + amounts[:, :, None]
    sums = np.where(taking_part[:, None] & (moved * sign[:, None] >= 0), moved, 0).sum(2)
    edges = np.concatenate([amounts[:, :1] - 2, amounts, amounts[:, -1:] + 2], axis=1)
    game, segment = np.arange(len(given)), (sums <= total[:, None]).sum(1)
    within = (edges[game, segment] + edges[game, segment + 1]) / 2
    moving = taking_part & ((given + within[:, None]) * sign >= 0)
    amount = (total - np.where(moving, given, 0).sum(1)) / np.maximum(moving.sum(1), 1)
    found = np.where(moving, given + amount[:, None], 0)
    kept = contributions.copy()
    # Where noise of float32 leaves no such contributions, the signs count more than the sum.
    kept[rows] = np.where(found * sign < 0, 0, found)
    return kept


def _plain(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.3g}"
