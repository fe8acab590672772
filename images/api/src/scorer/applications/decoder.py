"""From a request's JSON to the model's input row, with every field's problem found at once."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.applications.duplicate_keys import keys_of, repeated_key
from scorer.contract import CategoricalFeature, Contract, Feature, NumericFeature
from scorer.problems import FieldProblem, Problem

FloatRows = npt.NDArray[np.float32]
CodeRows = npt.NDArray[np.int64]


# msgspec raises the latter two from within names that are no UTF-8, and from nesting that is too deep.
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ApplicationDecoder:
    """Decodes applications for one contract.

    A good application passes through one compiled msgspec decoder. Only a bad one is looked at field by field, so that
    its sender learns of all problems together.
    """

    def __init__(self, contract: Contract) -> None:
        """Compile the decoder from the contract's features."""
        self._features = contract.features
        self._codes = tuple(
            {word: code for code, word in enumerate(feature.categories)} for feature in contract.categorical
        )
        # The order of the model's columns, so that a decoded application is already its row.
        columns: list[Feature] = [*contract.numeric, *contract.categorical]
        self._first_code, self._end = len(contract.numeric), len(columns)
        self._pack_numbers = struct.Struct(f"={len(contract.numeric)}f").pack
        self._pack_codes = struct.Struct(f"={len(contract.categorical)}q").pack
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [(f.name, _type_of(f)) for f in columns]
        fields.append(("applicant_id", str | None, None))
        record = msgspec.defstruct("Application", fields, forbid_unknown_fields=True, kw_only=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(record)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    def decode(self, body: bytes) -> tuple[FloatRows, CodeRows]:
        """Return the row as float32 [1, numeric features] and int64 [1, categorical features].

        Raises:
            Problem: 400 when the body is no JSON object or a field stands twice, 422 when fields are wrong; each is
                named with what is allowed.
        """
        try:
            application = self._decoder.decode(body)
        except BAD_JSON:
            raise self._explain(body) from None
        row = msgspec.structs.astuple(application)
        if (twice := repeated_key(body, self._end + (row[-1] is not None))) is not None:
            raise _twice(twice)
        numbers = self._pack_numbers(*row[: self._first_code])
        codes = self._pack_codes(*map(dict.__getitem__, self._codes, row[self._first_code : self._end]))
        # Packing bytes is several times quicker than making an array of one row from numbers.
        return np.frombuffer(numbers, np.float32)[None], np.frombuffer(codes, np.int64)[None]

    def decode_many(self, body: bytes) -> list[tuple[Any, ...]]:
        """Return the values of a JSON array of good applications: numbers first, then categories, then applicant_id.

        Raises:
            msgspec.ValidationError: when any of them is wrong, or may have a key twice.
        """
        rows = [msgspec.structs.astuple(application) for application in self._many.decode(body)]
        if body.count(b":") != len(rows) * self._end + sum(row[-1] is not None for row in rows):
            raise msgspec.ValidationError("there are more colons than keys")
        return rows

    def _explain(self, body: bytes) -> Problem:
        document = read_json(body)
        if not isinstance(document, dict):
            return Problem(422, "the body must be a JSON object with the application's fields")
        return self.problem_of(document)

    def problem_of(self, document: dict[str, Any]) -> Problem:
        """Say what is wrong with an application that is known to be wrong."""
        problems = [problem for feature in self._features if (problem := _problem_of(feature, document))]
        if not isinstance(document.get("applicant_id"), str | None):
            problems.append(FieldProblem("applicant_id", "is not a string", "a string, or nothing"))
        known = {feature.name for feature in self._features} | {"applicant_id"}
        allowed = ", ".join(feature.name for feature in self._features)
        problems += [
            FieldProblem(name, "is not a field of this model", allowed) for name in document if name not in known
        ]
        count = f"{len(problems)} field{'s are' if len(problems) > 1 else ' is'} wrong"
        return Problem(422, f"{count}: {', '.join(problem.field for problem in problems)}", tuple(problems))


def read_json(body: bytes, decode: Callable[[bytes], Any] | None = None) -> Any:  # noqa: ANN401 - whatever is sent
    """Return what a body holds; `decode` is for one that wants a shape, and looks for repeated keys itself.

    Raises:
        Problem: 400 when it is no JSON, or none that can be represented, or a key stands twice in an object.
        msgspec.ValidationError: when it is not of the shape that `decode` wants.
    """
    try:
        if decode:
            return decode(body)
        document = msgspec.json.decode(body)
        twice = repeated_key(body, keys_of(document))
    except BAD_JSON as error:
        if decode and isinstance(error, msgspec.ValidationError):
            raise
        raise Problem(400, f"the body is not valid JSON: {error}") from error
    if twice is not None:
        raise _twice(twice)
    return document


def _twice(field: str) -> Problem:
    return Problem(400, f"the field {field} stands twice", (FieldProblem(field, "stands twice", "once"),))


def encode(contract: Contract, applicant: dict[str, float | str]) -> tuple[FloatRows, CodeRows]:
    """Return an applicant who is known to fit the contract as the model's input rows."""
    return ApplicationDecoder(contract).decode(msgspec.json.encode(applicant))


def allowed_values(feature: Feature) -> str:
    """Say in words what a feature may be."""
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
