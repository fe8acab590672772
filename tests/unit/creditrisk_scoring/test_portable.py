"""A version that is sent to other processes: what it carries, where it comes from, and what it refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.portable import BatchScorer
from creditrisk_scoring.pyfunc import ResultsModel
from creditrisk_scoring.ray import TableScorer
from creditrisk_scoring.scoring import Version, result_schema, score
from unit.creditrisk_scoring.applications import applications


@pytest.fixture
def batch() -> pa.RecordBatch:
    return applications(300).to_batches()[0]


def test_results_follow_the_kept_columns(folder: Path, version: Version, batch: pa.RecordBatch) -> None:
    scorer = BatchScorer(folder, reasons=2, keep=["account", "income"])
    found = scorer(batch)
    assert found.schema == scorer.schema(batch.schema)
    assert found.select(["account", "income"]) == batch.select(["account", "income"])
    assert found.select(scorer.results.names) == score(batch, version, reasons=2)


def test_a_copy_needs_no_files_and_a_process_loads_a_version_once(
    tmp_path: Path, folder: Path, batch: pa.RecordBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.onnx", "contract.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    scorer = BatchScorer(tmp_path, reasons=1, scorecard=(500, 10, 30))
    for file in tmp_path.iterdir():
        file.unlink()
    sent = pickle.dumps(scorer)
    monkeypatch.setattr("creditrisk_scoring.portable.load_version", lambda *_: pytest.fail("loaded twice"))
    assert pickle.loads(sent)(batch) == pickle.loads(sent)(batch) == scorer(batch)


def test_a_copy_scores_in_another_process(folder: Path, batch: pa.RecordBatch, tmp_path: Path) -> None:
    scorer = BatchScorer(folder, keep=["account"])
    (tmp_path / "sent").write_bytes(pickle.dumps((scorer, batch)))
    program = (
        "import pickle, sys; from pathlib import Path; file = Path(sys.argv[1]);"
        "scorer, batch = pickle.loads(file.read_bytes()); file.write_bytes(pickle.dumps(scorer(batch)))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "sent")], check=True, env=environment)
    assert pickle.loads((tmp_path / "sent").read_bytes()) == scorer(batch)


def test_only_the_columns_that_it_reads_are_needed(folder: Path, version: Version) -> None:
    scorer = BatchScorer(folder, keep=["branch", "home"])
    assert scorer.needed(["branch", "income", "other", "home"]) == ["branch", "home", "income"]
    with pytest.raises(UsageError, match="keep branch; allowed: income, home"):
        scorer.needed(["income", "home"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: BatchScorer(folder / "absent"), "holds no version"),
        (lambda folder: BatchScorer(folder, reasons=99), "99 reasons; allowed: 0 to "),
        (lambda folder: BatchScorer(folder, reasons=-1), "-1 reasons; allowed: 0 to "),
        (lambda folder: BatchScorer(folder, keep=["grade"]), "keep grade; allowed: names that no result has"),
        (lambda folder: BatchScorer(folder, scorecard=(600, 0, 20)), "allowed: base points, base odds and points to"),
        (lambda folder: BatchScorer(folder, scorecard=(600, 50)), "allowed: base points, base odds and points to"),
        (lambda _: BatchScorer("models:/credit-risk/newest"), "allowed: models:/NAME/VERSION, models:/NAME@ALIAS"),
        (lambda _: BatchScorer("models:/credit-risk/7"), "needs MLFLOW_TRACKING_URI"),
    ],
)
def test_what_cannot_score_is_refused_before_it_is_sent(
    make: Callable[[Path], BatchScorer], words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError, match=words):
        make(folder)


def test_a_registry_out_of_reach_is_no_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(BulkError) as error:
        BatchScorer("models:/credit-risk@production")
    assert error.value.exit_code == 1


def test_tables_of_any_number_of_chunks_are_scored(folder: Path, batch: pa.RecordBatch) -> None:
    scorer = BatchScorer(folder, keep=["account"])
    table = pa.Table.from_batches([batch.slice(0, 100), batch.slice(100)])
    assert TableScorer(scorer)(table).combine_chunks().to_batches() == [scorer(batch)]
    empty = TableScorer(scorer)(table.slice(0, 0))
    assert (empty.num_rows, empty.schema) == (0, scorer.schema(batch.schema))


def test_predictions_have_the_results_of_the_frames_rows(folder: Path, version: Version) -> None:
    loans = applications(200).to_pandas().assign(former="x", note="ignored")
    found = ResultsModel(folder, reasons=2).predict(loans)
    expected = score(applications(200).to_batches()[0], version, reasons=2)
    assert pa.RecordBatch.from_pandas(found, schema=result_schema(version.contract, 2)) == expected
    assert found["score_points"].dtype == pd.Int32Dtype()


def test_a_column_that_appears_twice_is_refused(folder: Path) -> None:
    loans = applications(2).to_pandas()
    with pytest.raises(UsageError, match="the column income appears twice"):
        ResultsModel(folder).predict(pd.concat([loans, loans[["income"]]], axis=1))


def test_a_column_of_several_types_is_read_by_row(folder: Path) -> None:
    loans = applications(4).to_pandas()
    loans["income"] = pd.Series([50_000, "60000", "much", None], dtype=object)
    problems = ResultsModel(folder).predict(loans)["problem"]
    assert problems.isna().tolist() == [True, True, False, False]
    assert "is 'much', not a number" in problems[2]
