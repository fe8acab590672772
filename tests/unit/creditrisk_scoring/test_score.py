"""The function from a batch to its results: types of columns, bad rows, and tables that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from creditrisk_scoring.errors import UsageError
from creditrisk_scoring.scoring import BATCH_ROWS, Version, load_version, result_schema, score
from scorer.model.scorecard import Scorecard
from unit.creditrisk_scoring.applications import applications


def batch_of(count: int, **columns: pa.Array) -> pa.RecordBatch:
    """Return applications that are all valid, with some columns replaced."""
    batch = applications(count).to_batches()[0]
    for name, column in {"income": pa.array([50_000.0] * count), **columns}.items():
        batch = batch.set_column(batch.schema.get_field_index(name), name, column)
    return batch


def problems_of(results: pa.RecordBatch) -> list[list[tuple[str, str]] | None]:
    return [
        problem and [(error["field"], error["problem"]) for error in json.loads(problem)["errors"]]
        for problem in results.column("problem").to_pylist()
    ]


def test_each_row_has_the_single_application_s_numbers(version: Version) -> None:
    table = applications(BATCH_ROWS + 100).to_batches()[0]
    results = score(table, version, reasons=3)
    assert results.schema == result_schema(version.contract, 3)
    model = version.model
    for at in (0, 17, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 99):
        row = {name: value for name, value in table.slice(at, 1).to_pylist()[0].items() if name != "account"}
        found = results.slice(at, 1).to_pylist()[0]
        (one,) = model.explainer.explain(*model.decoder.decode(json.dumps(row).encode()))
        assert found["probability_of_default"] == pytest.approx(one.probability, abs=1e-6)
        assert abs(found["score_points"] - version.scorecard.points(one.probability)) <= 1
        assert found["grade"] == model.scale.grade(one.probability)  # type: ignore[union-attr]
        assert found["reasons"] == [reason.code for reason in model.explainer.reasons(one, 3, 1.0)]


def test_invalid_rows_say_why_and_harm_no_other(version: Version) -> None:
    good = score(batch_of(4), version)
    bad = batch_of(
        4, income=pa.array([50_000.0, None, float("inf"), 50_000.0]), home=pa.array(["castle", "own", "own", None])
    )
    found = score(bad, version, reasons=1)
    assert problems_of(found) == [
        [("home", "is 'castle'")],
        [("income", "is null, not a number")],
        [("income", "is inf, out of range")],
        [("home", "is null")],
    ]
    assert all(found.column(name).null_count == 4 for name in found.schema.names if name != "problem")
    assert good.column("problem").null_count == 4


@pytest.mark.parametrize(
    ("name", "column", "same"),
    [
        ("income", pa.array([50_000, 60_000], pa.int32()), [50_000.0, 60_000.0]),
        ("income", pa.array(["50000", "6e4"]), [50_000.0, 60_000.0]),
        ("income", pa.array(["50000", "6e4"], pa.large_string()).dictionary_encode(), [50_000.0, 60_000.0]),
        ("income", pa.array([50_000, 60_000]).cast(pa.decimal128(21, 2)), [50_000.0, 60_000.0]),
        ("bureau_score", pa.nulls(2), [None, None]),
        ("debt_ratio", pa.array([-99.9, 0.5], pa.float32()), [-99.9, 0.5]),
        ("purpose", pa.array(["Car", None]).dictionary_encode(), ["Car", None]),
        ("purpose", pa.array([b"Car", b"\xff\xfe"]), ["Car", "other"]),
        ("purpose", pa.array([float("nan"), None]), [None, None]),
        ("purpose", pa.array(["Car", "x" * 100_000]), ["Car", "other"]),
    ],
)
def test_columns_may_be_of_other_types(version: Version, name: str, column: pa.Array, same: list[Any]) -> None:
    found = score(batch_of(2, **{name: column}), version)
    assert found.column("problem").null_count == 2
    assert found == score(batch_of(2, **{name: pa.array(same)}), version)


def test_texts_that_are_no_numbers_are_refused_by_row(version: Version) -> None:
    texts = pa.array(["50000", "1_000", "\u0665", "", " 5", "much", b"\xff".decode(errors="replace")])
    found = problems_of(score(batch_of(7, income=texts), version))
    assert found[0] is None
    assert all(problem and "not a number" in problem[0][1] for problem in found[1:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda batch: batch.drop_columns(["income"]), "income is missing, needed: numbers"),
        (lambda batch: batch.append_column("income", batch.column("income")), "column income appears twice"),
        (lambda batch: pa.RecordBatch.from_pydict({"other": [1]}), "home is missing"),
        (lambda batch: set_to(batch, "income", pa.array([[1.0]])), "column income is of type list<item: double>"),
        (lambda batch: set_to(batch, "income", pa.array([1], pa.timestamp("us"))), "a date or time is no number"),
        (lambda batch: set_to(batch, "home", pa.array([{"a": 1}])), "column home is of type struct<a: int64>"),
    ],
)
def test_tables_that_cannot_be_scored_are_refused_as_a_whole(version: Version, change: Any, words: str) -> None:
    with pytest.raises(UsageError) as error:
        score(change(batch_of(1)), version)
    assert words in str(error.value)


def set_to(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(name), name, column)


def test_a_batch_without_rows_has_no_results(version: Version) -> None:
    found = score(batch_of(1).slice(0, 0), version, reasons=2)
    assert (found.num_rows, found.schema) == (0, result_schema(version.contract, 2))


def test_an_optional_column_may_be_absent(version: Version) -> None:
    found = score(batch_of(2).drop_columns(["bureau_score", "purpose", "former"]), version)
    assert found == score(batch_of(2, bureau_score=pa.nulls(2), purpose=pa.nulls(2)), version)


def test_a_folder_without_a_version_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"needed: model\.onnx and contract\.json"):
        load_version(tmp_path, Scorecard(600, 50, 20))
    (tmp_path / "contract.json").write_bytes((folder / "contract.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UsageError, match="cannot be served"):
        load_version(tmp_path, Scorecard(600, 50, 20))
