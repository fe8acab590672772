"""Large JSON batches are decoded in slices: nothing of that shows in the rows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from scorer.applications.decoder import ApplicationDecoder
from scorer.applications.tables import _SLICE_ROWS, TableReader
from scorer.contract import read_contract
from scorer.problems import Problem


@pytest.fixture
def reader(model_folder: Path) -> TableReader:
    contract = read_contract(model_folder / "contract.json")
    return TableReader(contract, ApplicationDecoder(contract))


def applications(model_folder: Path, count: int) -> list[dict[str, object]]:
    """Return valid applications that differ in their first number."""
    contract = read_contract(model_folder / "contract.json")
    first = contract.numeric[0]
    step = (first.maximum - first.minimum) / max(count, 1)
    return [{**contract.reference_applicant, first.name: first.minimum + step * row} for row in range(count)]


@pytest.mark.parametrize("count", [0, 1, _SLICE_ROWS - 1, _SLICE_ROWS, _SLICE_ROWS + 1, 3 * _SLICE_ROWS + 7])
def test_rows_are_those_of_single_applications_in_their_order(
    reader: TableReader, model_folder: Path, count: int
) -> None:
    records = applications(model_folder, count)
    rows = reader.from_json_records(msgspec.json.encode(records))
    one_by_one = reader.from_lines([msgspec.json.encode(record) for record in records])
    assert len(rows) == count
    assert not rows.problems
    np.testing.assert_array_equal(rows.numeric, one_by_one.numeric)
    np.testing.assert_array_equal(rows.codes, one_by_one.codes)


def test_problems_have_the_numbers_of_their_rows_in_the_batch(reader: TableReader, model_folder: Path) -> None:
    records = applications(model_folder, 3 * _SLICE_ROWS)
    bad = {0: "no such", _SLICE_ROWS - 1: "borders", _SLICE_ROWS: "of a", len(records) - 1: "slice"}
    for row, field in bad.items():
        records[row][field] = 1
    rows = reader.from_json_records(msgspec.json.encode(records))
    assert {row: [error.field for error in problem.errors] for row, problem in rows.problems.items()} == {
        row: [field] for row, field in bad.items()
    }


@pytest.mark.parametrize("body", [b"{}", b"1", b'"a"'])
def test_what_is_no_array_is_refused_as_before(reader: TableReader, body: bytes) -> None:
    with pytest.raises(Problem, match="array of applications"):
        reader.from_json_records(body)


def test_no_more_than_a_slice_is_decoded_at_once(
    reader: TableReader, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, sizes = ApplicationDecoder.decode_many, []

    def watched(self: ApplicationDecoder, body: bytes) -> list[tuple[object, ...]]:
        rows = decode(self, body)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(ApplicationDecoder, "decode_many", watched)
    reader.from_json_records(msgspec.json.encode(applications(model_folder, 10_000)))
    assert sum(sizes) == 10_000
    assert max(sizes) == _SLICE_ROWS
