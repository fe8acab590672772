"""Many applications at once: from columns or records to the model's input rows, each row's problems apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.applications.decoder import BAD_JSON, ApplicationDecoder, CodeRows, FloatRows, read_json
from scorer.contract import Contract, Feature, NumericFeature
from scorer.problems import FieldProblem, Problem

MOST_ROWS = 10_000
Column = Sequence[Any] | npt.NDArray[Any]
# Columns that may come along; they are no features.
_IDENTIFIERS = ("applicant_id",)
_records = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True)
class Rows:
    """Encoded applications.

    Attributes:
        numeric: float32 [N, numeric features].
        codes: int64 [N, categorical features].
        problems: What is wrong, by row. Such a row holds values that mean nothing.
    """

    numeric: FloatRows
    codes: CodeRows
    problems: Mapping[int, Problem] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N."""
        return len(self.numeric)


class _Positions(dict[Any, int]):
    """A category's position; -1 for what is none."""

    def __missing__(self, key: Any) -> int:  # noqa: ANN401 - whatever a client sent
        return -1


class TableReader:
    """Encodes tables for one contract."""

    def __init__(self, contract: Contract, decoder: ApplicationDecoder) -> None:
        """Take the contract, and the decoder that explains what is wrong with one application."""
        self._contract, self._decoder = contract, decoder
        self._names = {feature.name for feature in contract.features}
        self._positions = [
            _Positions((word, code) for code, word in enumerate(feature.categories)) for feature in contract.categorical
        ]

    def from_json_records(self, body: bytes) -> Rows:
        """Encode a JSON array of applications.

        Raises:
            Problem: when it is no array, or of too many rows.
        """
        try:
            records = read_json(body, _records)
        except msgspec.ValidationError:
            raise Problem(422, "the body must be an array of applications") from None
        check_rows(len(records))
        try:
            return self._encode(self._decoder.decode_many(body))
        except BAD_JSON:
            return self.from_lines(records)

    def from_lines(self, lines: Sequence[bytes | msgspec.Raw]) -> Rows:
        """Encode applications that are each JSON of their own."""
        good, problems = [], {}
        for index, line in enumerate(lines):
            try:
                good.append(self._decoder.decode(bytes(line)))
            except Problem as problem:
                problems[index] = problem
        rows = self._blank(len(lines))
        fine = np.array([index for index in range(len(lines)) if index not in problems], dtype=np.intp)
        if good:
            rows.numeric[fine] = np.concatenate([numeric for numeric, _ in good])
            rows.codes[fine] = np.concatenate([codes for _, codes in good])
        return Rows(rows.numeric, rows.codes, problems)

    def from_records(self, records: Sequence[Any], *, lenient: bool = False) -> Rows:
        """Encode decoded JSON objects, as `from_columns` does columns.

        Raises:
            Problem: when one is no object, or misses a field.
        """
        if not all(isinstance(record, dict) for record in records):
            raise Problem(422, "each row must be an object with the application's fields")
        names = dict.fromkeys(name for record in records for name in record)
        missing = object()
        columns: dict[str, list[Any]] = {name: [record.get(name, missing) for record in records] for name in names}
        for name, values in columns.items():
            if name in self._names and missing in values:
                row = values.index(missing)
                raise Problem(422, f"row {row} misses {name}", (self._missing(name),))
        return self.from_columns(columns, lenient=lenient)

    def from_columns(self, columns: Mapping[str, Column], *, lenient: bool = False) -> Rows:
        """Encode one sequence of values per feature.

        Args:
            columns: Values by feature; lists of what JSON holds, or arrays.
            lenient: Whether other columns are ignored instead of refused.

        Raises:
            Problem: when columns are missing, unknown, of different lengths or too long.
        """
        self._check_names(columns, lenient=lenient)
        count = self._count(columns)
        rows = self._blank(count)
        bad = np.zeros(count, dtype=bool)
        for place, number in enumerate(self._contract.numeric):
            values = _numbers(columns[number.name])
            wrong = ~((values >= number.minimum) & (values <= number.maximum))
            bad |= wrong
            rows.numeric[:, place] = np.where(wrong, number.minimum, values)
        for place, word in enumerate(self._contract.categorical):
            codes = _codes(columns[word.name], self._positions[place])
            bad |= codes < 0
            rows.codes[:, place] = np.maximum(codes, 0)
        problems = {int(row): self._explain(columns, int(row)) for row in np.flatnonzero(bad)}
        return Rows(rows.numeric, rows.codes, problems)

    def _encode(self, records: Iterable[tuple[Any, ...]]) -> Rows:
        columns = list(zip(*records, strict=True))
        if not columns:
            return self._blank(0)
        rows = self._blank(len(columns[0]))
        width = rows.numeric.shape[1]
        for place in range(width):
            rows.numeric[:, place] = columns[place]
        for place, positions in enumerate(self._positions):
            rows.codes[:, place] = _codes(columns[width + place], positions)
        return rows

    def _blank(self, count: int) -> Rows:
        numeric, categorical = len(self._contract.numeric), len(self._contract.categorical)
        return Rows(np.zeros((count, numeric), np.float32), np.zeros((count, categorical), np.int64))

    def _check_names(self, columns: Mapping[str, Column], *, lenient: bool) -> None:
        problems = [self._missing(name) for name in self._names if name not in columns]
        allowed = ", ".join(feature.name for feature in self._contract.features)
        if not lenient:
            known = self._names.union(_IDENTIFIERS)
            problems += [
                FieldProblem(name, "is not a field of this model", allowed) for name in columns if name not in known
            ]
        if problems:
            raise Problem(
                422, f"columns are wrong: {', '.join(problem.field for problem in problems)}", tuple(problems)
            )

    def _count(self, columns: Mapping[str, Column]) -> int:
        lengths = {name: len(columns[name]) for name in self._names}
        if len(set(lengths.values())) > 1:
            raise Problem(422, f"columns are of different lengths: {', '.join(f'{n} {c}' for n, c in lengths.items())}")
        (count,) = set(lengths.values())
        check_rows(count)
        return count

    def _missing(self, name: str) -> FieldProblem:
        feature = next(feature for feature in self._contract.features if feature.name == name)
        return FieldProblem(name, "is missing", "numbers" if isinstance(feature, NumericFeature) else "strings")

    def _explain(self, columns: Mapping[str, Column], row: int) -> Problem:
        return self._decoder.problem_of({
            feature.name: _as_sent(feature, columns[feature.name][row]) for feature in self._contract.features
        })  # fmt: skip


def check_rows(count: int) -> None:
    """Refuse a batch that is too large.

    Raises:
        Problem: 413 with the limit.
    """
    if count > MOST_ROWS:
        raise Problem(413, f"the batch has {count} rows; at most {MOST_ROWS} are allowed")


def refuse_repeated(names: Sequence[str]) -> None:
    """Refuse a table in which a column stands twice.

    Raises:
        Problem: 422 with its name.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem(422, f"the column {twice} stands twice", (FieldProblem(twice, "stands twice", "once"),))


def _numbers(values: Column) -> npt.NDArray[np.float64]:
    """Return values as float64, NaN where one is no number."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.astype(np.float64, copy=False)
    try:
        if set(map(type, values)) <= {float, int}:
            return np.array(values, dtype=np.float64)
    except OverflowError:
        pass
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:  # noqa: ANN401 - whatever a client sent
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _codes(values: Column, positions: _Positions) -> npt.NDArray[np.int64]:
    """Return categories' positions, -1 where a value is none."""
    if set(map(type, values)) <= {str}:
        return np.fromiter(map(positions.__getitem__, values), np.int64, len(values))
    return np.array([positions[value] if isinstance(value, str) else -1 for value in values], dtype=np.int64)


def _as_sent(feature: Feature, value: Any) -> Any:  # noqa: ANN401 - whatever a client sent
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(feature, NumericFeature) and value != value else value  # noqa: PLR0124 - NaN
