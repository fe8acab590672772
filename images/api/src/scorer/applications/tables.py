"""Many applications at once: from columns or records to the model's input rows, with each row's problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import UNSET

from scorer.applications.applicants import ApplicantIds, joined_ids, read_applicant_ids
from scorer.applications.features import readers_of
from scorer.applications.json_bodies import BAD_JSON, read_json
from scorer.applications.rows import MAX_ROWS, CodeRows, Column, FloatRows
from scorer.contract import APPLICANT_ID, Contract, NumericFeature
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
        applicant_ids: The applicants' ids, N of them; None if no row has one.
    """

    numeric: FloatRows
    codes: CodeRows
    problems: Mapping[int, Problem] = field(default_factory=dict)
    applicant_ids: ApplicantIds | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.numeric)


class Decoder(Protocol):
    """What a table needs of the decoder of single applications."""

    def read(self, body: bytes) -> tuple[FloatRows, CodeRows, bool, str | None]:
        """Return an application's row, whether it is usual, and its applicant's id.

        Raises:
            Problem: If it is invalid.
        """
        ...

    def decode_many(self, body: bytes) -> list[tuple[Any, ...]]:
        """Return the values of each application in a JSON array: of the model's columns, then its applicant's id."""
        ...

    def problem_of(self, document: dict[str, Any]) -> Problem:
        """Describe what is wrong with an application that is known to be invalid."""
        ...


class TableReader:
    """Encodes tables for one contract."""

    def __init__(self, contract: Contract, decoder: Decoder) -> None:
        """Take the contract, and the decoder that explains what is wrong with one application."""
        self._contract, self._decoder = contract, decoder
        self._readers = readers_of(contract)
        self._optional = {reader.feature.name for reader in self._readers if reader.optional}
        self._names = {feature.name for feature in contract.features}

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
            rows = self._decoder.decode_many(b"[" + b",".join(records) + b"]")
        except BAD_JSON:
            return self.from_lines(records)
        columns = list(zip(*rows, strict=True)) or [()] * (len(self._readers) + 1)
        ids = read_applicant_ids(columns[len(self._readers)], len(rows))
        return self._encode(
            columns, len(rows), ids, lambda row: self._decoder.problem_of(read_json(bytes(records[row])))
        )

    def from_lines(self, lines: Sequence[bytes | msgspec.Raw]) -> Rows:
        """Encode applications that are each a JSON document of its own."""
        good, problems = [], {}
        ids: list[str | None] = [None] * len(lines)
        for index, line in enumerate(lines):
            try:
                numeric, codes, _, ids[index] = self._decoder.read(bytes(line))
                good.append((numeric, codes))
            except Problem as problem:
                problems[index] = problem
        rows = self._blank(len(lines))
        fine = np.array([index for index in range(len(lines)) if index not in problems], dtype=np.intp)
        if good:
            rows.numeric[fine] = np.concatenate([numeric for numeric, _ in good])
            rows.codes[fine] = np.concatenate([codes for _, codes in good])
        return Rows(rows.numeric, rows.codes, problems, read_applicant_ids(ids, len(lines)))

    def from_records(self, records: Sequence[Any], *, lenient: bool = False) -> Rows:
        """Encode decoded JSON objects, as `from_columns` encodes columns.

        Raises:
            Problem: If a row is not an object or lacks a field.
        """
        if not all(isinstance(record, dict) for record in records):
            raise Problem(422, "each row must be an object with the application's fields")
        names = dict.fromkeys(name for record in records for name in record) | dict.fromkeys(self._optional)
        columns: dict[str, list[Any]] = {name: [record.get(name, UNSET) for record in records] for name in names}
        for name, values in columns.items():
            if name in self._names - self._optional and UNSET in values:
                row = values.index(UNSET)
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
        found = [columns.get(reader.feature.name) for reader in self._readers]
        ids = read_applicant_ids(columns.get(APPLICANT_ID), count)
        return self._encode(found, count, ids, lambda row: self._explain(columns, row))

    def _encode(
        self,
        columns: Sequence[Column | None],
        count: int,
        applicant_ids: ApplicantIds | None,
        explain: Callable[[int], Problem],
    ) -> Rows:
        """Encode columns in the order of the model's inputs; of one that is None, all values are missing."""
        rows, width = self._blank(count), len(self._contract.numeric)
        bad = np.zeros(count, dtype=bool)
        for index, (reader, column) in enumerate(zip(self._readers, columns, strict=False)):
            encoded, refused = reader.read_many([None] * count if column is None else column)
            target = rows.numeric[:, index] if index < width else rows.codes[:, index - width]
            if refused.any():
                # Any value will do, as long as the network can read it.
                encoded, bad = np.where(refused, 0, encoded), bad | refused
            target[:] = encoded
        problems = {int(row): explain(int(row)) for row in np.flatnonzero(bad)}
        return Rows(rows.numeric, rows.codes, problems, applicant_ids)

    def _blank(self, count: int) -> Rows:
        numeric, categorical = len(self._contract.numeric), len(self._contract.categorical)
        return Rows(np.zeros((count, numeric), np.float32), np.zeros((count, categorical), np.int64))

    def _check_names(self, columns: Mapping[str, Column], *, lenient: bool) -> None:
        problems = [self._missing(name) for name in self._names - self._optional if name not in columns]
        allowed = ", ".join(feature.name for feature in self._contract.features)
        if not lenient:
            known = self._names.union((APPLICANT_ID, *self._contract.ignored))
            problems += [
                FieldProblem(name, "is not a field of this model", allowed) for name in columns if name not in known
            ]
        if problems:
            raise Problem(422, f"invalid columns: {', '.join(problem.field for problem in problems)}", tuple(problems))

    def _count(self, columns: Mapping[str, Column]) -> int:
        lengths = {name: len(columns[name]) for name in self._names if name in columns}
        if not lengths:
            allowed = ", ".join(feature.name for feature in self._contract.features)
            raise Problem(422, f"no column is a field of this model; at least one is required: {allowed}")
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
            name: _as_sent(columns[name][row]) for name in (feature.name for feature in self._contract.features)
            if name in columns
        })  # fmt: skip


def _joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, numbered through."""
    problems, start = {}, 0
    for part in parts:
        problems.update({start + row: problem for row, problem in part.problems.items()})
        start += len(part)
    numeric, codes = (np.concatenate(arrays) for arrays in zip(*((p.numeric, p.codes) for p in parts), strict=True))
    return Rows(numeric, codes, problems, joined_ids([(part.applicant_ids, len(part)) for part in parts]))


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


def _as_sent(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN
