"""Data larger than memory: read part by part into files, with the same result as in memory."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import roc_auc_score

from trainer.data import parquet_files
from trainer.data.dataset import Dataset, protected_groups
from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.data.problems import InvalidDataError
from trainer.data.storage import Scratch, parse_size
from trainer.data.synthetic import generate
from trainer.data.time_split import Split
from trainer.errors import BadInputError
from trainer.learning import rows as training_rows
from trainer.learning.fitting import Fitted, fit
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.rows import shuffled
from trainer.pipeline import run
from trainer.preparation import TrainingInputs, prepare
from trainer.settings import Settings

ROWS = 2_000
SMALL = Hyperparameters(heads=2, hidden=(16,), bins=4, batch_rows=128, epochs=3, learning_rate=0.01)
SOAK_ROWS, SOAK_PART = 3_000_000, 500_000
SOAK_MIB = 1_500


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few thousand rows be many parts."""
    monkeypatch.setattr(parquet_files, "PART_ROWS", 300)


@pytest.fixture
def dated(declared: Path) -> pd.DataFrame:
    """Return loans with dates, weights, missing values, open outcomes, and rare purposes."""
    assert declared.exists()
    frame = generate(ROWS, seed=1)
    row = np.random.default_rng(0).permutation(ROWS)
    months = pd.date_range("2024-01-01", periods=10, freq="MS").strftime("%Y-%m-%d")
    frame = frame.assign(granted=months[row % 10], copies=1 + row % 3)
    frame["gender"] = frame["gender"].where(row % 50 > 0, None)
    frame["annual_income"] = frame["annual_income"].where(row % 40 > 0, np.nan)
    frame["loan_purpose"] = frame["loan_purpose"].where(row % 100 > 0, "Yacht")
    frame["loan_paid_back"] = frame["loan_paid_back"].astype(str).where(row % 30 > 0, "open")
    return frame


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """Return the built-in declaration with a date, a weight, open outcomes, and other purposes."""
    document = json.loads(BUILT_IN_DECLARATION.read_text(encoding="utf-8"))
    document |= {"date_column": "granted", "weight_column": "copies"}
    document["target"]["ignored"] = ["open"]
    for feature in document["features"]:
        if feature["name"] == "loan_purpose":
            feature |= {"other": {"minimum_rows": 50}, "categories": []}
    path = tmp_path / "features.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def written(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path, row_group_size=700)
    return path


def settings_for(data: Path | str, **changes: object) -> Settings:
    return replace(Settings(data=str(data), tracking_uri=""), **changes)  # type: ignore[arg-type]


def in_memory_and_streamed(settings: Settings) -> tuple[TrainingInputs, TrainingInputs]:
    return prepare(settings), prepare(replace(settings, streamed_values=0))


def assert_equal(streamed: Dataset, expected: Dataset) -> None:
    assert streamed.storage.is_mapped
    assert not expected.storage.is_mapped
    assert streamed.numeric.tobytes() == expected.numeric.tobytes()
    assert np.array_equal(streamed.categorical, expected.categorical)
    assert streamed.target.tobytes() == expected.target.tobytes()
    assert (streamed.weight is None) == (expected.weight is None)
    if streamed.weight is not None and expected.weight is not None:
        assert streamed.weight.tobytes() == expected.weight.tobytes()
    for name in streamed.frame.columns:
        pd.testing.assert_series_equal(
            streamed.frame[name], expected.frame[name], check_dtype=False, check_categorical=False
        )


@pytest.mark.parametrize("split", list(Split))
def test_rows_in_files_are_those_in_memory(split: Split, dated: pd.DataFrame, declared: Path, tmp_path: Path) -> None:
    settings = settings_for(written(dated, tmp_path / "loans.parquet"), features=declared, split=split)
    expected, streamed = in_memory_and_streamed(settings)
    assert_equal(streamed.training, expected.training)
    assert_equal(streamed.test, expected.test)
    assert streamed.declaration == expected.declaration
    assert "Yacht" not in json.dumps(streamed.declaration.model_dump(mode="json"))
    assert (streamed.fingerprint, streamed.split_in_words) == (expected.fingerprint, expected.split_in_words)
    groups = (protected_groups(inputs.test.frame, inputs.full_declaration) for inputs in (streamed, expected))
    assert [{name: found.astype(str).tolist() for name, found in part.items()} for part in groups] == [
        {name: found.astype(str).tolist() for name, found in protected_groups(
            expected.test.frame, expected.full_declaration).items()}
    ] * 2  # fmt: skip


def test_only_parquet_with_many_values_is_read_into_files(loans: pd.DataFrame, tmp_path: Path) -> None:
    data = written(loans, tmp_path / "loans.parquet")
    # The id, eleven features and the target.
    values = len(loans) * 13
    assert not prepare(settings_for(data, streamed_values=values)).training.storage.is_mapped
    assert prepare(settings_for(data, streamed_values=values - 1)).training.storage.is_mapped
    loans.to_csv(tmp_path / "loans.csv", index=False)
    assert not prepare(settings_for(tmp_path / "loans.csv", streamed_values=0)).training.storage.is_mapped


def test_files_of_a_pattern_are_one_table_in_the_order_of_their_names(loans: pd.DataFrame, tmp_path: Path) -> None:
    whole = written(loans, tmp_path / "whole.parquet")
    (tmp_path / "parts").mkdir()
    written(loans[600:], tmp_path / "parts" / "b.parquet")
    written(loans[:600], tmp_path / "parts" / "a.parquet")
    (tmp_path / "parts" / "deeper").mkdir()
    written(loans, tmp_path / "parts" / "deeper" / "c.parquet")
    streamed = prepare(settings_for(f"{tmp_path}/parts/*.parquet"))
    assert_equal(streamed.training, prepare(settings_for(whole)).training)
    assert streamed.table.source == f"{tmp_path}/parts/*.parquet"


def test_a_pattern_without_files_and_files_that_differ_are_refused(loans: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"\*\.parquet: no file matches"):
        prepare(settings_for(f"{tmp_path}/*.parquet"))
    written(loans, tmp_path / "a.parquet")
    written(loans.drop(columns="gender"), tmp_path / "b.parquet")
    with pytest.raises(BadInputError, match=r"b\.parquet: lacks columns of .*a\.parquet: gender"):
        prepare(settings_for(f"{tmp_path}/*.parquet"))
    (tmp_path / "b.parquet").write_text("id,gender\n")
    with pytest.raises(BadInputError, match=r"b\.parquet: not a Parquet file"):
        prepare(settings_for(f"{tmp_path}/*.parquet"))


def broken(loans: pd.DataFrame) -> pd.DataFrame:
    """Return loans with problems of every kind, in several parts."""
    frame = loans.astype({"annual_income": object}).drop(columns="gender")
    frame["annual_income"] = frame["annual_income"].astype(str)
    # Numbers if the column had no others, in a part of its own.
    frame.loc[300:599, "annual_income"] = "yes"
    frame.loc[[2, 950], "annual_income"] = "lots"
    frame.loc[[4, 700], "credit_score"] = 9_000
    frame.loc[[5, 905], "interest_rate"] = np.nan
    frame.loc[[6, 7, 800], "loan_purpose"] = "Yacht"
    frame.loc[[400, 900], "id"] = 8
    frame.loc[[10, 980], "loan_paid_back"] = 7
    frame["granted"], frame["copies"] = "2024-01-01", 1.0
    frame.loc[[20, 620], "granted"] = "soon"
    frame.loc[[30, 630], "copies"] = [-1.0, np.inf]
    frame["debt_to_income_ratio"] = 0.5 + frame["debt_to_income_ratio"] * 1e-9
    return frame


def test_problems_are_the_same_in_both_ways(loans: pd.DataFrame, tmp_path: Path) -> None:
    document = json.loads(BUILT_IN_DECLARATION.read_text(encoding="utf-8"))
    for feature in document["features"]:
        feature["missing"] = "refused"
    document |= {"date_column": "granted", "weight_column": "copies"}
    (tmp_path / "features.json").write_text(json.dumps(document), encoding="utf-8")
    data = written(broken(loans), tmp_path / "loans.parquet")
    settings = settings_for(data, features=tmp_path / "features.json", minimum_rows=5_000)
    said = []
    for streamed_values in (sys.maxsize, 0):
        with pytest.raises(InvalidDataError) as caught:
            prepare(replace(settings, streamed_values=streamed_values))
        said.append((str(caught.value), caught.value.to_json()))
    assert said[0] == said[1]
    for expected in (
        "column gender: column is missing",
        "1000 rows are too few",
        "column annual_income: not a number (such as lots, yes): 302 rows: 3, 301, 302,",
        "column credit_score: outside 300 to 850 points (such as 9000.0): 2 rows: 5, 701",
        "column interest_rate: missing value: 2 rows: 6, 906",
        "column loan_purpose: unknown category",
        "column id: duplicate value (such as 8): 3 rows: 9, 401, 901",
        "column loan_paid_back: neither",
        "column granted: no date (such as soon): 2 rows: 21, 621",
        "column copies: a negative weight (such as -1.0): 1 rows: 31",
        "column copies: an infinite weight (such as inf): 1 rows: 631",
        "column debt_to_income_ratio: the model reads float32",
    ):
        assert expected in said[0][0]


def test_a_column_of_booleans_is_read_as_numbers_in_both_ways(loans: pd.DataFrame, tmp_path: Path) -> None:
    document = json.loads(BUILT_IN_DECLARATION.read_text(encoding="utf-8"))
    flag = {"name": "flag", "kind": "numeric", "unit": "", "minimum": 0, "maximum": 1, "description": "a flag",
            "reason_code": "FLAG"}  # fmt: skip
    document["features"].append(flag)
    (tmp_path / "features.json").write_text(json.dumps(document), encoding="utf-8")
    flagged = loans.assign(flag=np.where(np.arange(len(loans)) % 3 > 0, "yes", "0"))
    data = written(flagged, tmp_path / "loans.parquet")
    expected, streamed = in_memory_and_streamed(settings_for(data, features=tmp_path / "features.json"))
    assert_equal(streamed.training, expected.training)
    assert set(streamed.training.frame["flag"]) == {0.0, 1.0}


def test_a_problem_says_in_which_of_several_files_it_is(loans: pd.DataFrame, tmp_path: Path) -> None:
    written(loans[:600], tmp_path / "a.parquet")
    wrong = loans[600:].copy()
    wrong.loc[610, "credit_score"] = 9_000
    written(wrong, tmp_path / "b.parquet")
    with pytest.raises(InvalidDataError, match=r"1 rows: 611\n  row 601 is the first of .*b\.parquet$"):
        prepare(settings_for(f"{tmp_path}/*.parquet"))


def test_the_bytes_of_a_file_are_not_held_while_its_parts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "loans.parquet"
    numbers = np.random.default_rng(0).random(1_000_000)
    pq.write_table(pa.table({"income": numbers}), path, row_group_size=20_000, compression="none")
    held = pa.total_allocated_bytes()
    parts = parquet_files.ParquetFiles("loans", (str(path),), tmp_path).parts(["income"])
    most = max(pa.total_allocated_bytes() - held for _ in parts)
    assert most < path.stat().st_size / 3


def trained(inputs: TrainingInputs) -> Fitted:
    return fit(
        inputs.training,
        inputs=inputs.declaration.inputs,
        hyperparameters=SMALL.for_rows(len(inputs.training)),
        seed=0,
        on_epoch=lambda _: None,
    )


def test_both_ways_train_the_same_model(dated: pd.DataFrame, declared: Path, tmp_path: Path) -> None:
    """Up to the last bits: what is encoded in batches of other sizes may be rounded differently."""
    data = written(dated, tmp_path / "loans.parquet")
    expected, streamed = (trained(inputs) for inputs in in_memory_and_streamed(settings_for(data, features=declared)))
    assert np.array_equal(streamed.out_of_fold_rows, expected.out_of_fold_rows)
    assert streamed.out_of_fold_logit == pytest.approx(expected.out_of_fold_logit, abs=1e-5)
    for found, wanted in zip(streamed.network.parameters(), expected.network.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_whole_run_on_files_registers_a_version_with_the_same_metrics(settings: Settings, tmp_path: Path) -> None:
    data = written(generate(3_000, 0), tmp_path / "loans.parquet")
    metrics = []
    for name, streamed_values in (("in-memory", sys.maxsize), ("streamed", 0)):
        result = run(replace(settings, data=str(data), streamed_values=streamed_values, model_name=name))
        assert result.version == "1"
        metrics.append(result.metrics)
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-4)


def test_an_epoch_of_more_rows_than_a_window_takes_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_rows, "_BLOCK_ROWS", 10)
    monkeypatch.setattr(training_rows, "_WINDOW_ROWS", 100)
    rows = torch.arange(5, 1_010)
    torch.manual_seed(3)
    order = shuffled(rows)
    assert sorted(order.tolist()) == rows.tolist()
    first = order[:100].tolist()
    # Ten whole blocks of rows that follow each other, from many places.
    assert len({(row - 5) // 10 for row in first}) in {10, 11}
    assert max(first) - min(first) > 500
    assert first != sorted(first)
    torch.manual_seed(3)
    assert torch.equal(shuffled(rows), order)
    assert not torch.equal(shuffled(rows), order)


def test_windows_of_blocks_learn_as_well_from_rows_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows sorted by what decides about most of them are the hardest for a shuffle of blocks."""
    frame = generate(6_000, 0).sort_values(["employment_status", "credit_score"])
    inputs = prepare(settings_for(written(frame, tmp_path / "loans.parquet"), streamed_values=0))
    found = []
    for window in (10_000, 640):
        monkeypatch.setattr(training_rows, "_BLOCK_ROWS", 16)
        monkeypatch.setattr(training_rows, "_WINDOW_ROWS", window)
        fitted = trained(inputs)
        found.append(roc_auc_score(inputs.training.target[fitted.out_of_fold_rows], fitted.out_of_fold_logit))
    assert found[1] == pytest.approx(found[0], abs=0.01)
    assert found[0] > 0.8


def test_a_scratch_volume_that_is_too_small_is_said_before_anything_is_read(
    loans: pd.DataFrame, tmp_path: Path
) -> None:
    settings = settings_for(
        written(loans, tmp_path / "loans.parquet"),
        streamed_values=0,
        scratch_dir=tmp_path / "scratch",
        scratch_size="100k",
    )
    needed = (
        r"the scratch volume .* cannot take the training rows: 0\.2 MiB more are needed, and 0\.1 MiB are left; make"
    )
    with pytest.raises(BadInputError, match=needed):
        prepare(settings)
    assert prepare(replace(settings, scratch_size="1Mi")).training.storage.is_mapped
    with pytest.raises(BadInputError, match=r"--scratch-dir .*loans\.parquet: "):
        prepare(replace(settings, scratch_dir=tmp_path / "loans.parquet"))


def test_arrays_in_files_end_with_their_owner_and_never_change_under_a_reader(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, limit=10_000)
    first = scratch.empty("rows", (100,), np.int64)
    first[:] = 7
    second = scratch.empty("rows", (100,), np.int64)
    second[:] = 8
    assert (first == 7).all()
    assert np.array_equal(np.load(scratch.folder / "rows.npy", mmap_mode="r"), second)
    with pytest.raises(BadInputError, match="cannot take the training rows"):
        scratch.empty("more", (10_000,), np.int64)
    folder = scratch.folder
    scratch.discard("rows")
    assert list(folder.iterdir()) == []
    del scratch
    assert not folder.exists()
    assert (second == 8).all()


def test_what_a_killed_process_left_behind_is_deleted_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from trainer.data.storage import Scratch
scratch = Scratch(Path({str(tmp_path)!r}))
scratch.empty("rows", (10,), "float32")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    (abandoned,) = tmp_path.iterdir()
    used = Scratch(tmp_path)
    assert not abandoned.exists()
    other = Scratch(tmp_path)
    assert set(tmp_path.iterdir()) == {used.folder, other.folder}


@pytest.mark.parametrize(("text", "size"), [("", None), ("10Gi", 10 * 2**30), ("500M", 500_000_000), ("1.5k", 1_500)])
def test_sizes_are_written_as_kubernetes_writes_them(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["10 GB", "-1Gi", "many", "1e3"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=f"--scratch-size {text}: must be a size such as 500Mi"):
        settings_for("loans.csv", scratch_size=text)


TRAIN = """
import sys, pathlib
from trainer.__main__ import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(*(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
sys.exit(code)
"""


@pytest.mark.soak
def test_millions_of_rows_train_in_bounded_memory(tracking_uri: str, tmp_path: Path) -> None:
    """In memory, they would take more than twice the limit."""
    data = tmp_path / "loans.parquet"
    with pq.ParquetWriter(data, pa.Table.from_pandas(generate(1, 0), preserve_index=False).schema) as writer:
        for part in range(SOAK_ROWS // SOAK_PART):
            frame = generate(SOAK_PART, part)
            frame["id"] += part * SOAK_PART
            writer.write_table(pa.Table.from_pandas(frame, preserve_index=False))
    arguments = ["--data", str(data), "--tracking-uri", tracking_uri, "--work-dir", str(tmp_path), "--epochs=1"]
    command = [sys.executable, "-c", TRAIN, *arguments, "--scratch-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # A gate may refuse what one epoch has learned.
    assert done.returncode in {0, 3}, done.stderr
    assert int(done.stdout.split()[-1]) / 1024 < SOAK_MIB
    assert "registered version 1" in done.stderr
    assert not [*tmp_path.glob("training-rows-*")]
