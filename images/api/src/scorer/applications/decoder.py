"""From a request's JSON to the model's input row; all invalid fields are found at once."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET

from scorer.applications.duplicate_keys import count_keys, duplicate_key
from scorer.applications.rows import MAX_ROWS, CodeRows, FloatRows
from scorer.contract import APPLICANT_ID, CategoricalFeature, Contract, Feature, NumericFeature
from scorer.problems import FieldProblem, Problem

# msgspec raises the latter two for object keys that are not UTF-8 and for nesting that is too deep.
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Fields = list[tuple[str, Any] | tuple[str, Any, Any]]
# A row of 64 values has room for any contract. Parsers make an object of 50 bytes or more of each value, so a body that
# holds little else would take fifty times its size before its rows could be counted.
MAX_VALUES = MAX_ROWS * 64


class ApplicationDecoder:
    """Decodes applications for one contract.

    A valid application passes through one compiled msgspec decoder. Only an invalid one is inspected field by field, so
    that its sender gets all problems together.
    """

    def __init__(self, contract: Contract) -> None:
        """Compile the decoder from the contract's features and ignored fields."""
        self._features = contract.features
        self._known = {APPLICANT_ID, *contract.ignored, *(feature.name for feature in contract.features)}
        self._ignores = bool(contract.ignored)
        self._codes = tuple(
            {word: code for code, word in enumerate(feature.categories)} for feature in contract.categorical
        )
        # In the order of the model's columns, so that a decoded application already is its row.
        columns: list[Feature] = [*contract.numeric, *contract.categorical]
        self._first_code, self._end = len(contract.numeric), len(columns)
        self._pack_numbers = struct.Struct(f"={len(contract.numeric)}f").pack
        self._pack_codes = struct.Struct(f"={len(contract.categorical)}q").pack
        record = _record(contract, columns)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(record)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    def decode(self, body: bytes) -> tuple[FloatRows, CodeRows]:
        """Return the row as float32 [1, numeric features] and int64 [1, categorical features].

        Raises:
            Problem: 400 if the body is not a JSON object or a field appears twice; 422 if fields are invalid, each
                named with what is allowed.
        """
        try:
            row = msgspec.structs.astuple(self._decoder.decode(body))
            keys = self._end + (row[self._end] is not None)
            twice = duplicate_key(body, keys + _count_present(row[self._end + 1 :]) if self._ignores else keys)
        except BAD_JSON:
            raise self._explain(body) from None
        if twice is not None:
            raise _appears_twice(twice)
        numbers = self._pack_numbers(*row[: self._first_code])
        codes = self._pack_codes(*map(dict.__getitem__, self._codes, row[self._first_code : self._end]))
        # Packing bytes is several times faster than building one-row arrays from numbers.
        return np.frombuffer(numbers, np.float32)[None], np.frombuffer(codes, np.int64)[None]

    def decode_many(self, body: bytes) -> list[tuple[Any, ...]]:
        """Return the values of each application in a JSON array: numbers first, then categories, then optional fields.

        Raises:
            msgspec.ValidationError: If any application is invalid, or may have a key twice.
        """
        rows = [msgspec.structs.astuple(application) for application in self._many.decode(body)]
        keys = sum(self._end + (row[self._end] is not None) + _count_present(row[self._end + 1 :]) for row in rows)
        if body.count(b":") != keys:
            raise msgspec.ValidationError("there are more colons than keys")
        return rows

    def problem_of(self, document: dict[str, Any]) -> Problem:
        """Describe what is wrong with an application that is known to be invalid."""
        problems = [problem for feature in self._features if (problem := _problem_of(feature, document))]
        if not isinstance(document.get(APPLICANT_ID), str | None):
            problems.append(FieldProblem(APPLICANT_ID, "is not a string", "a string or null"))
        allowed = ", ".join(feature.name for feature in self._features)
        problems += [
            FieldProblem(name, "is not a field of this model", allowed) for name in document if name not in self._known
        ]
        count = f"{len(problems)} invalid field{'s' if len(problems) > 1 else ''}"
        return Problem(422, f"{count}: {', '.join(problem.field for problem in problems)}", tuple(problems))

    def _explain(self, body: bytes) -> Problem:
        document = read_json(body)
        if not isinstance(document, dict):
            return Problem(422, "the body must be a JSON object with the application's fields")
        return self.problem_of(document)


def _record(contract: Contract, columns: list[Feature]) -> type[msgspec.Struct]:
    """Return the struct of an application: its columns, then applicant_id, then the ignored fields, left undecoded."""
    fields: _Fields = [(f"column_{index}", _type_of(feature)) for index, feature in enumerate(columns)]
    fields.append((APPLICANT_ID, str | None, None))
    ignored = {f"ignored_{index}": name for index, name in enumerate(contract.ignored)}
    fields += [(name, msgspec.Raw | msgspec.UnsetType, UNSET) for name in ignored]
    # Names in JSON need not be Python identifiers.
    names = {f"column_{index}": feature.name for index, feature in enumerate(columns)} | ignored
    return msgspec.defstruct("Application", fields, forbid_unknown_fields=True, kw_only=True, rename=names)


def _count_present(ignored: tuple[Any, ...]) -> int:
    """Return how many ignored fields an application had; keys within their values are not counted."""
    return sum(value is not UNSET for value in ignored)


def check_value_count(body: bytes, separators: bytes) -> None:
    """Refuse a body before it is parsed if it has more values than the largest batch.

    Args:
        body: Text in which a separator follows each value but the last.
        separators: The bytes that separate values.

    Raises:
        Problem: 413 with the limit.
    """
    if sum(body.count(separator) for separator in separators) > MAX_VALUES:
        raise Problem(413, f"the body has too many values; at most {MAX_VALUES} are allowed")


def read_json(body: bytes, decode: Callable[[bytes], Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Return the decoded body; `decode` is for callers that need a type, and that check for duplicate keys themselves.

    Raises:
        Problem: 400 if the body is not JSON, cannot be represented, or has a key twice in an object; 413 for too many
            values.
        msgspec.ValidationError: If it does not have the type that `decode` needs.
    """
    check_value_count(body, b",")
    try:
        if decode:
            return decode(body)
        document = msgspec.json.decode(body)
        twice = duplicate_key(body, count_keys(document))
    except BAD_JSON as error:
        if decode and isinstance(error, msgspec.ValidationError):
            raise
        raise Problem(400, f"the body is not valid JSON: {error}") from error
    if twice is not None:
        raise _appears_twice(twice)
    return document


def _appears_twice(field: str) -> Problem:
    return Problem(400, f"the field {field} appears twice", (FieldProblem(field, "appears twice", "once"),))


def encode(contract: Contract, applicant: dict[str, float | str]) -> tuple[FloatRows, CodeRows]:
    """Return an applicant known to fit the contract as the model's input rows."""
    return ApplicationDecoder(contract).decode(msgspec.json.encode(applicant))


def allowed_values(feature: Feature) -> str:
    """Describe a feature's allowed values in words."""
    if isinstance(feature, NumericFeature):
        unit = f" {feature.unit}" if feature.unit else ""
        return f"a number from {feature.minimum:g} to {feature.maximum:g}{unit}"
    return "one of " + ", ".join(feature.categories)


def _type_of(feature: Feature) -> Any:  # noqa: ANN401 - a type built at run time
    if isinstance(feature, NumericFeature):
        return Annotated[float, msgspec.Meta(ge=feature.minimum, le=feature.maximum)]
    return Literal[feature.categories]


def _problem_of(feature: Feature, document: dict[str, Any]) -> FieldProblem | None:
    allowed = allowed_values(feature)
    if feature.name not in document:
        return FieldProblem(feature.name, "is missing", allowed)
    value = document[feature.name]
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    if isinstance(feature, CategoricalFeature):
        if not isinstance(value, str):
            return FieldProblem(feature.name, f"is {shown}, not a string", allowed)
        return None if value in feature.categories else FieldProblem(feature.name, f"is {shown}", allowed)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return FieldProblem(feature.name, f"is {shown}, not a number", allowed)
    inside = feature.minimum <= value <= feature.maximum and math.isfinite(value)
    return None if inside else FieldProblem(feature.name, f"is {shown}, out of range", allowed)
