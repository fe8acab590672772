"""From a request's JSON to the model's input row; all invalid fields are found at once."""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET

from scorer.applications.duplicate_keys import duplicate_key
from scorer.applications.features import NumberReader, Reader, problem_of, readers_of, takes_values
from scorer.applications.json_bodies import BAD_JSON, appears_twice, read_json
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import APPLICANT_ID, Contract, Feature, NumericFeature
from scorer.problems import FieldProblem, Problem

# A field's type, and its default if it may be absent.
_Type = tuple[Any] | tuple[Any, Any]
_Fields = list[tuple[str, Any] | tuple[str, Any, Any]]


class ApplicationDecoder:
    """Decodes applications for one contract.

    A usual application passes through one compiled msgspec decoder that knows the categories and the ranges seen in
    training. Any other passes through a second one that also takes what is missing, outside those ranges or another
    category, if the contract allows that. Only an invalid one is inspected field by field, so that its sender gets all
    problems together.
    """

    def __init__(self, contract: Contract) -> None:
        """Compile the decoders from the contract's features and ignored fields."""
        # In the order of the model's columns, so that a decoded application already is its row.
        self._readers = readers_of(contract)
        columns = {reader.feature.name: reader for reader in self._readers}
        self._features = tuple((feature.name, columns[feature.name]) for feature in contract.features)
        self._known = {APPLICANT_ID, *contract.ignored, *columns}
        self._ignores = bool(contract.ignored)
        self._codes = tuple(
            {word: code for code, word in enumerate(feature.categories)} for feature in contract.categorical
        )
        self._first_code, self._end = len(contract.numeric), len(columns)
        self._pack_numbers = struct.Struct(f"={len(contract.numeric)}f").pack
        self._pack_codes = struct.Struct(f"={len(contract.categorical)}q").pack
        # Numbers that mean missing although they are within the range seen in training.
        self._inner = tuple(
            (column, feature)
            for column, feature in enumerate(map(NumberReader, contract.numeric))
            if feature.holds_missing_value_within(*feature.feature.training_range)
        )
        usual = _record(contract, [_usual_type(reader.feature) for reader in self._readers])
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(usual)
        self._all_are_usual = not any(
            reader.optional or takes_values(reader.feature) or reader.feature.accepts_unusual
            for reader in self._readers
        )
        every = usual if self._all_are_usual else _record(contract, [_any_type(reader) for reader in self._readers])
        self._wide: msgspec.json.Decoder[Any] = msgspec.json.Decoder(every)
        self._many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[every])  # type: ignore[valid-type]

    def decode(self, body: bytes) -> tuple[FloatRows, CodeRows]:
        """Return the row that `read` returns, whether it is usual or not.

        Raises:
            Problem: What `read` raises.
        """
        return self.read(body)[:2]

    def read(self, body: bytes) -> tuple[FloatRows, CodeRows, bool, str | None]:
        """Return an application's row, whether it is usual (complete, and like the rows of training), and whose it is.

        Returns:
            float32 [1, numeric features] and int64 [1, categorical features], the answer, and the applicant's id.

        Raises:
            Problem: 400 if the body is not a JSON object or a field appears twice; 422 if fields are invalid, each
                named with what is allowed.
        """
        try:
            row = msgspec.structs.astuple(self._decoder.decode(body))
            keys = self._end + (row[self._end] is not None)
            twice = duplicate_key(body, keys + _count_present(row[self._end + 1 :]) if self._ignores else keys)
        except BAD_JSON:
            return self._read_unusual(body)
        if twice is not None:
            raise appears_twice(twice)
        for column, reader in self._inner:
            if reader.read(row[column]) != row[column]:
                return self._read_unusual(body)
        numbers = self._pack_numbers(*row[: self._first_code])
        codes = self._pack_codes(*map(dict.__getitem__, self._codes, row[self._first_code : self._end]))
        # Packing bytes is several times faster than building one-row arrays from numbers.
        return np.frombuffer(numbers, np.float32)[None], np.frombuffer(codes, np.int64)[None], True, row[self._end]

    def _read_unusual(self, body: bytes) -> tuple[FloatRows, CodeRows, bool, str | None]:
        if self._all_are_usual:
            raise self._explain(body) from None
        try:
            row = msgspec.structs.astuple(self._wide.decode(body))
            twice = duplicate_key(body, _count_keys(row, self._end))
        except BAD_JSON:
            raise self._explain(body) from None
        if twice is not None:
            raise appears_twice(twice)
        read = [reader.read(value) for reader, value in zip(self._readers, row, strict=False)]
        if None in read:
            raise self._explain(body)
        numbers, codes = self._pack_numbers(*read[: self._first_code]), self._pack_codes(*read[self._first_code :])
        return np.frombuffer(numbers, np.float32)[None], np.frombuffer(codes, np.int64)[None], False, row[self._end]

    def decode_many(self, body: bytes) -> list[tuple[Any, ...]]:
        """Return the values of each application in a JSON array: numbers first, then categories, then applicant_id.

        Values are as they were sent, unset where a field that may be missing is absent. Those of a contract under which
        nothing may be unusual are valid.

        Raises:
            msgspec.ValidationError: If any application lacks a field or has one of the wrong type, or may have a key
                twice.
        """
        rows = [msgspec.structs.astuple(application) for application in self._many.decode(body)]
        if body.count(b":") != sum(_count_keys(row, self._end) for row in rows):
            raise msgspec.ValidationError("there are more colons than keys")
        return rows

    def problem_of(self, document: dict[str, Any]) -> Problem:
        """Describe what is wrong with an application that is known to be invalid."""
        problems = [
            problem for name, reader in self._features if (problem := problem_of(reader, document.get(name, UNSET)))
        ]
        if not isinstance(document.get(APPLICANT_ID), str | None):
            problems.append(FieldProblem(APPLICANT_ID, "is not a string", "a string or null"))
        allowed = ", ".join(name for name, _ in self._features)
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


def _record(contract: Contract, types: list[_Type]) -> type[msgspec.Struct]:
    """Return the struct of an application: its columns, then applicant_id, then the ignored fields, left undecoded."""
    fields: _Fields = [(f"column_{index}", *given) for index, given in enumerate(types)]
    fields.append((APPLICANT_ID, str | None, None))
    ignored = {f"ignored_{index}": name for index, name in enumerate(contract.ignored)}
    fields += [(name, msgspec.Raw | msgspec.UnsetType, UNSET) for name in ignored]
    # Names in JSON need not be Python identifiers.
    columns: list[Feature] = [*contract.numeric, *contract.categorical]
    names = {f"column_{index}": feature.name for index, feature in enumerate(columns)} | ignored
    return msgspec.defstruct("Application", fields, forbid_unknown_fields=True, kw_only=True, rename=names)


def _usual_type(feature: Feature) -> _Type:
    if isinstance(feature, NumericFeature):
        low, high = feature.training_range
        return (Annotated[float, msgspec.Meta(ge=low, le=high)],)
    return (Literal[feature.categories],)


def _any_type(reader: Reader) -> _Type:
    kind: Any = float if isinstance(reader, NumberReader) else str
    if takes_values(reader.feature):
        kind |= bool | int | float
    return (kind | None | msgspec.UnsetType, UNSET) if reader.optional else (kind,)


def _count_keys(row: tuple[Any, ...], end: int) -> int:
    """Return how many keys an application had: of its columns, `applicant_id` at `end`, and ignored fields."""
    return _count_present(row) - (row[end] is None)


def _count_present(values: tuple[Any, ...]) -> int:
    """Return how many fields an application had; keys within the values of ignored ones are not counted."""
    return len(values) - values.count(UNSET)
