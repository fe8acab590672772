"""One feature's values: what the model gets for each, which are refused, and what is allowed, in words.

A missing value is NaN to the model, or the code after the last category; any other text is the code after that. These
are the inputs that the contract promises; what they mean for the probability is inside the graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from scorer.applications.rows import CodeRows, Column, FloatRows, Repeated
from scorer.contract import CategoricalFeature, Contract, Feature, NumericFeature
from scorer.problems import FieldProblem

# How many rows `probes_of` returns.
PROBES = 3
_NAN, _NOT_A_NUMBER = float("nan"), float("inf")
# Half of the distance between neighboring float32 numbers, relative to them: a table of float32 holds a number that
# means missing no more exactly than that.
_SINGLE_PRECISION = 2.0**-24
_REQUIRED = "; a value is required"
_SHOWN_CHARACTERS = 80
_AS_JSON = {None: "null", True: "true", False: "false"}
_BOOLEANS = ("true", "false")
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
# Python's texts of floats that JSON does not have.
_NO_NUMBERS = frozenset({"nan", "inf", "-inf"})
_INTEGER_AS_FLOAT = re.compile(r"(-?\d+)\.0+", re.ASCII)


class NumberReader:
    """Reads the values of a numeric feature."""

    def __init__(self, feature: NumericFeature) -> None:
        """Take the feature's limits and the numbers that mean missing."""
        self.feature, self.optional = feature, bool(feature.missing)
        self.missing_values = tuple(feature.missing_values or ())

    def read(self, value: Any) -> float | None:  # noqa: ANN401 - any JSON value
        """Return the model's number for a JSON value, None or unset for missing; None if the value is refused."""
        number = _number(value)
        if self.optional and (number != number or self._means_missing(number)):  # noqa: PLR0124 - NaN
            return _NAN
        return number if self.feature.minimum <= number <= self.feature.maximum else None

    def read_many(self, values: Column) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return the model's numbers for values as `read` takes them, float64 [N], and which are refused, bool [N]."""
        numbers = _numbers(values)
        for value in self.missing_values:
            numbers = np.where(_is_about(numbers, value), _NAN, numbers)
        accepted = (numbers >= self.feature.minimum) & (numbers <= self.feature.maximum)
        if self.optional:
            accepted |= np.isnan(numbers)
        return numbers, ~accepted

    def problem(self, value: Any) -> str:  # noqa: ANN401 - any JSON value
        """Say what is wrong with a refused value that is neither null nor absent."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"is {_shown(value)}, not a number"
        return f"is {_shown(value)}, out of range"

    def holds_missing_value_within(self, minimum: float, maximum: float) -> bool:
        """Say whether a number that means missing lies within a range."""
        return any(minimum <= value <= maximum for value in self.missing_values)

    def _means_missing(self, number: float) -> bool:
        return any(_is_about(number, value) for value in self.missing_values)


class _Codes(dict[Any, int]):
    """Codes by text, and by None and unset for missing; -1 for anything that is refused.

    Where texts are numbers or booleans, other spellings and JSON's own values are the same ones, as in training: 1 and
    "1.0" are the text 1, true and "True" are the text true. "01" is not 1.
    """

    def __init__(self, codes: Iterable[tuple[Any, int]], other: int) -> None:
        super().__init__(codes)
        self._other = other
        texts = [text for text in self if isinstance(text, str)]
        self.by_value = {text: self[text] for text in texts if _NUMBER.fullmatch(text)}
        # Of two spellings of a boolean, the first in the order of the alphabet, as in training.
        self.by_value |= {text.lower(): self[text] for text in sorted(texts, reverse=True) if _is_boolean(text)}

    def __missing__(self, key: Any) -> int:  # noqa: ANN401 - any JSON value
        text = _as_text(key) if self.by_value else key
        # An empty text is no category: neither one that was seen in training, nor another one.
        return self.by_value.get(text, self._other if text and isinstance(text, str) else -1)


class CategoryReader:
    """Reads the values of a categorical feature."""

    _TEXTS = frozenset({str, type(None), UnsetType})
    _VALUES = frozenset({*_TEXTS, bool, int, float})

    def __init__(self, feature: CategoricalFeature) -> None:
        """Take the feature's categories, and the texts that mean missing."""
        self.feature, self.optional = feature, bool(feature.missing)
        known: list[tuple[Any, int]] = [(word, code) for code, word in enumerate(feature.categories)]
        if self.optional:
            known += [(value, feature.missing_code) for value in (None, UNSET, *(feature.missing_values or ()))]
        self._codes = _Codes(known, feature.other_code if feature.other else -1)
        self.takes_values = takes_values(feature)

    def read(self, value: Any) -> int | None:  # noqa: ANN401 - any JSON value
        """Return the model's code for a JSON value, None or unset for missing; None if the value is refused."""
        code = self._code(value)
        return None if code < 0 else code

    def read_many(self, values: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the model's codes for values as `read` takes them, int64 [N], and which are refused, bool [N]."""
        if isinstance(values, Repeated):
            codes, refused = self.read_many(values.values)
            return codes[values.places], refused[values.places]
        # Texts are looked up without a function call for each.
        values = values.tolist() if isinstance(values, np.ndarray) else values
        code = self._codes.__getitem__ if self._TEXTS.issuperset(map(type, values)) else self._code
        codes = np.fromiter(map(code, values), np.int64, len(values))
        return codes, codes < 0

    def problem(self, value: Any) -> str:  # noqa: ANN401 - any JSON value
        """Say what is wrong with a refused value that is neither null nor absent."""
        readable = self._VALUES if self.takes_values else self._TEXTS
        return f"is {_shown(value)}" if type(value) in readable else f"is {_shown(value)}, not a string"

    def _code(self, value: Any) -> int:  # noqa: ANN401 - any JSON value
        if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
            value = None
        return self._codes[value] if type(value) in self._VALUES else -1


Reader = NumberReader | CategoryReader


def takes_values(feature: Feature) -> bool:
    """Say whether a number or a boolean may be a category of the feature, so that JSON and tables may hold these."""
    if isinstance(feature, NumericFeature):
        return False
    return any(
        _NUMBER.fullmatch(text) or _is_boolean(text) for text in (*feature.categories, *(feature.missing_values or ()))
    )


def readers_of(contract: Contract) -> tuple[Reader, ...]:
    """Return a reader for each column of the model's inputs: the numeric features, then the categorical ones."""
    return (*map(NumberReader, contract.numeric), *map(CategoryReader, contract.categorical))


def encode(contract: Contract, applicant: Mapping[str, float | str]) -> tuple[FloatRows, CodeRows]:
    """Return an applicant as the model's input row, float32 [1, numeric features] and int64 [1, categorical features].

    Raises:
        ValueError: If the contract does not allow a value; the message names the field and what is allowed.
    """
    readers = readers_of(contract)
    given = [applicant.get(reader.feature.name, UNSET) for reader in readers]
    for reader, value in zip(readers, given, strict=True):
        if problem := problem_of(reader, value):
            raise ValueError(f"{problem.field} {problem.problem}; allowed: {problem.allowed}")
    row = [reader.read(value) for reader, value in zip(readers, given, strict=True)]
    width = len(contract.numeric)
    return np.array([row[:width]], np.float32), np.array([row[width:]], np.int64)


def probes_of(contract: Contract, numeric: FloatRows, codes: CodeRows) -> tuple[FloatRows, CodeRows]:
    """Return a row three times: as it is, with all missing that may be, and with all other categories that may be.

    Args:
        contract: Says what may be missing or another category.
        numeric: float32 [1, numeric features].
        codes: int64 [1, categorical features].
    """
    numbers, categories = np.repeat(numeric, PROBES, axis=0), np.repeat(codes, PROBES, axis=0)
    numbers[1, [bool(feature.missing) for feature in contract.numeric]] = _NAN
    for column, feature in enumerate(contract.categorical):
        categories[1, column] = feature.missing_code if feature.missing else categories[1, column]
        categories[2, column] = feature.other_code if feature.other else categories[2, column]
    return numbers, categories


def problem_of(reader: Reader, value: Any) -> FieldProblem | None:  # noqa: ANN401 - any JSON value
    """Return what is wrong with a feature's value, unset if the field is absent; None if it is accepted."""
    if reader.read(value) is not None:
        return None
    feature, allowed = reader.feature, allowed_values(reader.feature)
    if isinstance(value, UnsetType):
        return FieldProblem(feature.name, "is missing", allowed + _REQUIRED)
    return FieldProblem(feature.name, reader.problem(value), allowed + (_REQUIRED if value is None else ""))


def allowed_values(feature: Feature) -> str:
    """Describe a feature's allowed values in words."""
    if isinstance(feature, NumericFeature):
        unit = f" {feature.unit}" if feature.unit else ""
        allowed = f"a number from {feature.minimum:g} to {feature.maximum:g}{unit}"
        missing = [f"{value:g}" for value in feature.missing_values or ()]
    else:
        allowed = f"one of {', '.join(feature.categories)}" + (", or another text" if feature.other else "")
        missing = list(feature.missing_values or ())
    return f"{allowed}, or {' or '.join(['null', *missing])} if it is missing" if feature.missing else allowed


def _is_about(number: Any, value: float) -> Any:  # noqa: ANN401 - a number, or an array of them
    """Return whether a number, or each of an array, is a value as far as float32 can tell."""
    return abs(number - value) <= _SINGLE_PRECISION * abs(value)


def _numbers(values: Column) -> npt.NDArray[np.float64]:
    """Return values as float64: NaN for missing ones, infinity for anything else that is not a number."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.astype(np.float64, copy=False)
    try:
        if {float, int, type(None)}.issuperset(map(type, values)):
            return np.array(values, dtype=np.float64)
    except OverflowError:
        pass
    return np.fromiter(map(_number, values), np.float64, len(values))


def _number(value: Any) -> float:  # noqa: ANN401 - any JSON value
    if value is None or value is UNSET:
        return _NAN
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _NOT_A_NUMBER
    try:
        return float(value)
    except OverflowError:
        return _NOT_A_NUMBER


def _is_boolean(text: str) -> bool:
    return text.lower() in _BOOLEANS


def _as_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a number or boolean, or another spelling of one, as categories spell it; empty text for no value."""
    if isinstance(value, bool | float | int):
        value = _AS_JSON[value] if isinstance(value, bool) else repr(value)
    if not isinstance(value, str) or value in _NO_NUMBERS:
        return ""
    if integer := _INTEGER_AS_FLOAT.fullmatch(value):
        return integer[1]
    return value.lower() if _is_boolean(value) else value


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    known = value is None or isinstance(value, bool)
    text = _AS_JSON[value] if known else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
