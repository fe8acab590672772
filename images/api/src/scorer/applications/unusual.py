"""What the model's input rows hold that training did not: the warnings of an answer, and their counts.

Computed from the encoded rows, so that every protocol warns alike. What is usual costs a batch two comparisons of whole
arrays, and a single application nothing: its decoder already knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from scorer.answers import InputWarning, WarningCode
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import Contract, Feature, NumericFeature

_OUTSIDE: WarningCode = "outside-training-range"
_UNSEEN: WarningCode = "unseen-category"
Warnings = tuple[InputWarning, ...]


@dataclass(frozen=True)
class UnusualRows:
    """The unusual values of a batch, in the order of its rows and of the contract's features.

    Attributes:
        features: The contract's features.
        rows: The row of each value.
        indices: The place of each value's feature in the contract.
        numbers: Each value as the model got it; 0 for a category.
    """

    features: Sequence[Feature] = ()
    rows: Sequence[int] = ()
    indices: Sequence[int] = ()
    numbers: Sequence[np.float32] = ()

    @property
    def counts(self) -> list[tuple[str, WarningCode, int]]:
        """How often each field got each code."""
        found = sorted(Counter(self.indices).items())
        return [(self.features[index].name, _code(self.features[index]), count) for index, count in found]

    def warnings(self) -> dict[int, Warnings]:
        """Return what is said of each row that has unusual values."""
        said: dict[int, Warnings] = {}
        for row, index, number in zip(self.rows, self.indices, self.numbers, strict=True):
            said[row] = (*said.get(row, ()), _warning(self.features[index], number))
        return said


class UnusualValues:
    """Finds the unusual values of rows of one contract."""

    def __init__(self, contract: Contract) -> None:
        """Take the ranges seen in training, and which features accept other categories."""
        columns: list[Feature] = [*contract.numeric, *contract.categorical]
        # As the model's input holds them: the ends of a range are within it in float32 too.
        ranges = np.array([feature.training_range for feature in contract.numeric], np.float32).reshape(-1, 2)
        self._low, self._high = ranges[:, 0], ranges[:, 1]
        self._other = np.array([feature.other_code for feature in contract.categorical], np.int64)
        self._features = contract.features
        self._columns = [columns.index(feature) for feature in contract.features]
        self._possible = any(feature.accepts_unusual for feature in columns)

    def find(self, numeric: FloatRows, codes: CodeRows, refused: Collection[int] = ()) -> UnusualRows:
        """Return the unusual values of N rows.

        Args:
            numeric: float32 [N, numeric features], NaN for missing values.
            codes: int64 [N, categorical features].
            refused: Numbers of rows that have no valid values.
        """
        if not self._possible:
            return UnusualRows()
        unusual = np.concatenate([(numeric < self._low) | (numeric > self._high), codes == self._other], axis=1)
        unusual[list(refused)] = False
        if not unusual.any():
            return UnusualRows()
        rows, indices = np.nonzero(unusual[:, self._columns])
        values = np.concatenate([numeric, np.zeros(codes.shape, np.float32)], axis=1)[:, self._columns]
        return UnusualRows(self._features, rows.tolist(), indices.tolist(), list(values[rows, indices]))


def _code(feature: Feature) -> WarningCode:
    return _OUTSIDE if isinstance(feature, NumericFeature) else _UNSEEN


def _warning(feature: Feature, value: np.float32) -> InputWarning:
    if not isinstance(feature, NumericFeature):
        return InputWarning(feature.name, _UNSEEN, "is not one of the model's categories; scored as another one")
    low, high = feature.training_range
    side, end = ("below the least", low) if value < low else ("above the greatest", high)
    return InputWarning(
        feature.name, _OUTSIDE, f"is {_plain(value)}, {side} value in training; scored as {_plain(end)}"
    )


def _plain(value: float | np.float32) -> str:
    """Return the shortest text of a number that tells it from other float32 numbers."""
    return np.format_float_positional(np.float32(value), trim="-")
