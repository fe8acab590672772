"""Many applications at once: from columns or records to the model's input rows, with each row's problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.applications.decoder import BAD_JSON, ApplicationDecoder, read_json
from scorer.applications.rows import MAX_ROWS, CodeRows, Column, FloatRows
from scorer.contract import APPLICANT_ID, Contract, Feature, NumericFeature
from scorer.problems import FieldProblem, Problem

# Decoding a slice does not let other threads run, and single applications wait for it: these take .1 ms, the largest
# batch at once would take 12 ms or more.
_SLICE_ROWS = 256
_decode_records = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True)
class Rows:
    """Encoded applications.

    Attributes:
        numeric: float32 [N, numeric features].
        codes: int64 [N, categorical features].
        problems: What is wrong, by row; the values of such a row are meaningless.
    """

    numeric: FloatRows
    codes: CodeRows
    problems: Mapping[int, Problem] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N."""
        return len(self.numeric)


class _CategoryCodes(dict[Any, int]):
    """Codes by category; -1 for anything that is not a category."""

    def __missing__(self, key: Any) -> int:  # noqa: ANN401 - any JSON value
        return -1


class TableReader:
    """Encodes tables for one contract."""

    def __init__(self, contract: Contract, decoder: ApplicationDecoder) -> None:
        """Take the contract, and the decoder that explains what is wrong with one application."""
        self._contract, self._decoder = contract, decoder
        self._names = {feature.name for feature in contract.features}
        self._codes = [
            _CategoryCodes((word, code) for code, word in enumerate(feature.categories))
            for feature in contract.categorical
        ]

    def from_json_records(self, body: bytes) -> Rows:
        """Encode a JSON array of applications.

        Raises:
            Problem: If the body is not an array or has too many rows.
        """
        try:
            records = read_json(body, _decode_records)
        except msgspec.ValidationError:
            raise Problem(422, "the body must be an array of applications") from None
        check_row_count(len(records))
        starts = range(0, len(records), _SLICE_ROWS)
        return _joined([self._blank(0), *(self._from_slice(records[at : at + _SLICE_ROWS]) for at in starts)])

    def _from_slice(self, records: Sequence[msgspec.Raw]) -> Rows:
        try:
            return self._encode(self._decoder.decode_many(b"[" + b",".join(records) + b"]"))
        except BAD_JSON:
            return self.from_lines(records)

    def from_lines(self, lines: Sequence[bytes | msgspec.Raw]) -> Rows:
        """Encode applications that are each a JSON document of its own."""
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
        """Encode decoded JSON objects, as `from_columns` encodes columns.

        Raises:
            Problem: If a row is not an object or lacks a field.
        """
        if not all(isinstance(record, dict) for record in records):
            raise Problem(422, "each row must be an object with the application's fields")
        names = dict.fromkeys(name for record in records for name in record)
        missing = object()
        columns: dict[str, list[Any]] = {name: [record.get(name, missing) for record in records] for name in names}
        for name, values in columns.items():
            if name in self._names and missing in values:
                row = values.index(missing)
                raise Problem(422, f"row {row} lacks the field {name}", (self._missing(name),))
        return self.from_columns(columns, lenient=lenient)

    def from_columns(self, columns: Mapping[str, Column], *, lenient: bool = False) -> Rows:
        """Encode one sequence of values per feature.

        Args:
            columns: Values by feature, as lists of JSON values or as arrays. Columns that the contract ignores may hold
                anything.
            lenient: Whether unknown columns are ignored instead of refused.

        Raises:
            Problem: If columns are missing, unknown, too long or of different lengths.
        """
        self._check_names(columns, lenient=lenient)
        count = self._count(columns)
        rows = self._blank(count)
        bad = np.zeros(count, dtype=bool)
        for index, number in enumerate(self._contract.numeric):
            values = _numbers(columns[number.name])
            wrong = ~((values >= number.minimum) & (values <= number.maximum))
            bad |= wrong
            rows.numeric[:, index] = np.where(wrong, number.minimum, values)
        for index, word in enumerate(self._contract.categorical):
            codes = _encode_categories(columns[word.name], self._codes[index])
            bad |= codes < 0
            rows.codes[:, index] = np.maximum(codes, 0)
        problems = {int(row): self._explain(columns, int(row)) for row in np.flatnonzero(bad)}
        return Rows(rows.numeric, rows.codes, problems)

    def _encode(self, records: Iterable[tuple[Any, ...]]) -> Rows:
        columns = list(zip(*records, strict=True))
        if not columns:
            return self._blank(0)
        rows = self._blank(len(columns[0]))
        width = rows.numeric.shape[1]
        for index in range(width):
            rows.numeric[:, index] = columns[index]
        for index, codes in enumerate(self._codes):
            rows.codes[:, index] = _encode_categories(columns[width + index], codes)
        return rows

    def _blank(self, count: int) -> Rows:
        numeric, categorical = len(self._contract.numeric), len(self._contract.categorical)
        return Rows(np.zeros((count, numeric), np.float32), np.zeros((count, categorical), np.int64))

    def _check_names(self, columns: Mapping[str, Column], *, lenient: bool) -> None:
        problems = [self._missing(name) for name in self._names if name not in columns]
        allowed = ", ".join(feature.name for feature in self._contract.features)
        if not lenient:
            known = self._names.union((APPLICANT_ID, *self._contract.ignored))
            problems += [
                FieldProblem(name, "is not a field of this model", allowed) for name in columns if name not in known
            ]
        if problems:
            raise Problem(422, f"invalid columns: {', '.join(problem.field for problem in problems)}", tuple(problems))

    def _count(self, columns: Mapping[str, Column]) -> int:
        lengths = {name: len(columns[name]) for name in self._names}
        if len(set(lengths.values())) > 1:
            raise Problem(422, f"columns differ in length: {', '.join(f'{n} {c}' for n, c in lengths.items())}")
        (count,) = set(lengths.values())
        check_row_count(count)
        return count

    def _missing(self, name: str) -> FieldProblem:
        feature = next(feature for feature in self._contract.features if feature.name == name)
        return FieldProblem(name, "is missing", "numbers" if isinstance(feature, NumericFeature) else "strings")

    def _explain(self, columns: Mapping[str, Column], row: int) -> Problem:
        return self._decoder.problem_of({
            feature.name: _as_sent(feature, columns[feature.name][row]) for feature in self._contract.features
        })  # fmt: skip


def _joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, numbered through."""
    problems, start = {}, 0
    for part in parts:
        problems.update({start + row: problem for row, problem in part.problems.items()})
        start += len(part)
    numeric, codes = (np.concatenate(arrays) for arrays in zip(*((p.numeric, p.codes) for p in parts), strict=True))
    return Rows(numeric, codes, problems)


def check_row_count(count: int) -> None:
    """Refuse batches that are too large.

    Raises:
        Problem: 413 with the limit.
    """
    if count > MAX_ROWS:
        raise Problem(413, f"the batch has {count} rows; the limit is {MAX_ROWS}")


def refuse_invalid_rows(problems: Mapping[int, Problem], count: int) -> None:
    """Refuse a batch with any invalid row, for protocols that have no errors by row.

    Raises:
        Problem: 422 that names the first 20 invalid rows of the batch's `count`, and their fields.
    """
    if problems:
        errors = tuple(
            FieldProblem(f"row {row}: {error.field}", error.problem, error.allowed)
            for row, problem in list(problems.items())[:20]
            for error in problem.errors
        )
        raise Problem(422, f"{len(problems)} of {count} rows are invalid", errors)


def refuse_duplicate_columns(names: Sequence[str]) -> None:
    """Refuse a table in which a column appears twice.

    Raises:
        Problem: 422 with the column's name.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem(422, f"the column {twice} appears twice", (FieldProblem(twice, "appears twice", "once"),))


def _numbers(values: Column) -> npt.NDArray[np.float64]:
    """Return values as float64, NaN for anything that is not a number."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values.astype(np.float64, copy=False)
    try:
        if set(map(type, values)) <= {float, int}:
            return np.array(values, dtype=np.float64)
    except OverflowError:
        pass
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _encode_categories(values: Column, codes: _CategoryCodes) -> npt.NDArray[np.int64]:
    """Return the categories' codes, -1 for anything that is not a category."""
    if set(map(type, values)) <= {str}:
        return np.fromiter(map(codes.__getitem__, values), np.int64, len(values))
    return np.array([codes[value] if isinstance(value, str) else -1 for value in values], dtype=np.int64)


def _as_sent(feature: Feature, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(feature, NumericFeature) and value != value else value  # noqa: PLR0124 - NaN
