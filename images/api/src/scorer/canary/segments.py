"""The groups of applicants that a canary is judged by: those of the features that the contract marks as protected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import CategoricalFeature, Contract, NumericFeature

# They bound how many series a pod reports: at most so many features, the first of the contract, with so many groups.
MAX_FEATURES, MAX_VALUES = 8, 20
# As in fairness reports of training, a number's groups are four; there by quartiles, which the contract does not have.
_PARTS = 4
MISSING, OTHER = "(missing)", "(other)"


class Segments:
    """Names an applicant's group in each protected feature of one model."""

    def __init__(self, contract: Contract) -> None:
        """Prepare the groups' names.

        A categorical feature has its categories as groups, a numeric one the quarters of its range in training. Beside
        them there are "(missing)" and "(other)"; the latter also has the categories beyond the twentieth.
        """
        protected = [feature for feature in contract.features if feature.protected][:MAX_FEATURES]
        self._numbers = [
            (contract.numeric.index(feature), feature.name, _namer(feature))
            for feature in protected
            if isinstance(feature, NumericFeature)
        ]
        self._words = [
            (contract.categorical.index(feature), feature.name, _names(feature))
            for feature in protected
            if isinstance(feature, CategoricalFeature)
        ]

    def of(self, numeric: FloatRows, codes: CodeRows, row: int = 0) -> list[tuple[str, str]]:
        """Return the protected features' names and the group of one of N rows in each.

        Args:
            numeric: float32 [N, numeric features], NaN for missing values.
            codes: int64 [N, categorical features].
            row: Which row.
        """
        words = [(name, names[codes[row, column]]) for column, name, names in self._words]
        return words + [(name, group(float(numeric[row, column]))) for column, name, group in self._numbers]


def _names(feature: CategoricalFeature) -> Sequence[str]:
    """Return a group's name for each code: the categories, missing, and any other text."""
    most = MAX_VALUES - bool(feature.missing)
    named = [name if index < most else OTHER for index, name in enumerate(feature.categories)]
    return [*named, MISSING, OTHER]


def _namer(feature: NumericFeature) -> Callable[[float], str]:
    """Return a function from a number to its group's name; the outer groups have numbers outside of the range too."""
    low, high = feature.training_range
    edges = [low + (high - low) * part / _PARTS for part in range(_PARTS + 1)]
    names = [f"{edges[part]:g} to {edges[part + 1]:g}" for part in range(_PARTS)]

    def name(value: float) -> str:
        if math.isnan(value):
            return MISSING
        return names[sum(value >= edge for edge in edges[1:-1])]

    return name
