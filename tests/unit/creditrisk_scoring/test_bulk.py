"""Whole runs: what is scored, what is left after a failure, and what a rerun does."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from creditrisk_scoring.command import main
from creditrisk_scoring.scoring import Version, score
from unit.creditrisk_scoring import killed
from unit.creditrisk_scoring.applications import applications, write_input
from unit.creditrisk_scoring.conftest import Ended, table_of

Bulk = Callable[..., Ended]
SIZES = {"a.parquet": 2_300, "deep/b.parquet": 700}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    return write_input(tmp_path / "in", SIZES)


def test_every_row_is_scored_or_rejected_as_it_would_be_alone(
    bulk: Bulk, source: Path, tmp_path: Path, version: Version
) -> None:
    ended = bulk(source, tmp_path / "out", "--reasons", "2", "--shard-rows", "1000")
    assert ended.code == 0, ended.messages
    expected = pa.concat_tables(
        pa.Table.from_batches(
            [score(pq.read_table(source / name).combine_chunks().to_batches()[0], version, reasons=2)]
        )
        for name in SIZES
    )
    bad = expected.filter(pa.compute.is_valid(expected["problem"]))
    good = expected.filter(pa.compute.is_null(expected["problem"]))
    assert good.num_rows > bad.num_rows > 0
    for name in ("score_points", "decision", "grade", "reasons"):
        assert ended.scores[name] == good[name], name
    assert ended.scores["probability_of_default"].to_pylist() == pytest.approx(
        good["probability_of_default"].to_pylist(), abs=1e-6
    )
    assert ended.rejected["problem"] == bad["problem"]
    whence = list(zip(ended.scores["source_file"].to_pylist(), ended.scores["source_row"].to_pylist(), strict=True))
    assert whence == sorted(whence)
    # In these files, the account is the row's number; features and ignored fields are not copied.
    assert ended.scores["account"].to_pylist() == ended.scores["source_row"].to_pylist()
    assert not {"income", "former"} & set(ended.scores.schema.names)
    summary = ended.summary
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert (summary["rows"], summary["scored"], summary["rejected"]) == (3_000, good.num_rows, bad.num_rows)
    assert (summary["rejected_by_field"], summary["shards"]) == ({"income": bad.num_rows}, 4)
    assert sum(summary["score_histogram"]["counts"]) == good.num_rows
    assert summary["declined"] == good["decision"].to_pylist().count("decline")
    assert not list((tmp_path / "out" / "_bulk" / "staging").iterdir())


def test_a_run_that_is_killed_at_random_points_ends_as_an_undisturbed_one(
    bulk: Bulk, source: Path, tmp_path: Path, folder: Path
) -> None:
    # A killed process leaves a claim, whose end the next one waits for.
    options = ["--shard-rows", "500", "--where", "account % 7 <> 3", "--lease", "0.05"]
    undisturbed = bulk(source, tmp_path / "undisturbed", *options)
    seed = secrets.randbelow(1 << 30)
    command = [sys.executable, killed.__file__, str(seed), "900", str(source), str(tmp_path / "out"),
               "--model", str(folder), *options]  # fmt: skip
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    assert ended.returncode == 0, f"seed {seed}: {ended.stderr}"
    counted = re.search(r"killed (\d+) times", ended.stderr)
    assert counted, ended.stderr
    assert int(counted[1]) >= 2, f"seed {seed}"
    for kind in ("scores", "rejected"):
        left, right = table_of(tmp_path / "out" / kind), table_of(tmp_path / "undisturbed" / kind)
        assert left == right, f"seed {seed}"
    assert (tmp_path / "out" / "summary.json").read_bytes() == (tmp_path / "undisturbed" / "summary.json").read_bytes()
    assert undisturbed.summary["excluded"] > 0


def test_a_rerun_does_only_what_is_missing(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    first = bulk(source, tmp_path / "out", "--shard-rows", "500")
    (tmp_path / "out" / "_bulk" / "done" / "part-00002.json").unlink()
    (tmp_path / "out" / "scores" / "part-00002.parquet").unlink()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "scores").iterdir()}
    write_input(source, {"later.parquet": 10})
    again = bulk(source, tmp_path / "out", "--shard-rows", "500")
    assert (again.code, again.summary) == (0, first.summary)
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())
    assert "part-00002: 4" in again.messages
    assert "part-00001:" not in again.messages


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--reasons", "1"], "reasons was 0 and is 1"),
        (["--where", "income > 1"], "where was '' and is 'income > 1'"),
        (["--shard-rows", "7"], "shard_rows was 1000000 and is 7"),
        (["--scorecard", "500,20,20"], "scorecard was (600.0, 50.0, 20.0)"),
    ],
)
def test_results_of_different_requests_are_not_mixed(
    bulk: Bulk, source: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    assert bulk(source, tmp_path / "out").code == 0
    ended = bulk(source, tmp_path / "out", *options)
    assert (ended.code, words in ended.messages) == (2, True), ended.messages


def test_results_of_another_version_are_not_mixed(bulk: Bulk, source: Path, tmp_path: Path, folder: Path) -> None:
    assert bulk(source, tmp_path / "out").code == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    (other / "contract.json").write_bytes((folder / "contract.json").read_bytes() + b"\n")
    ended = bulk(source, tmp_path / "out", "--model", str(other))
    assert (ended.code, "digests was" in ended.messages) == (2, True), ended.messages


def test_a_condition_sees_each_row_and_nothing_else(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    ended = bulk(source, tmp_path / "out", "--where", "bureau_score > 600 AND purpose IS NOT NULL", "--keep", "account")
    table = pa.concat_tables(pq.read_table(source / name) for name in SIZES)
    wanted = [row["account"] for row in table.to_pylist() if (row["bureau_score"] or 0) > 600 and row["purpose"]]
    found = [*ended.scores["account"].to_pylist(), *ended.rejected["account"].to_pylist()]
    assert sorted(found) == sorted(wanted)
    for where, words in {
        "nothing > 1": "nothing",
        "income >": "syntax error",
        "account IN (SELECT a FROM read_csv('/etc/passwd'))": "disabled",
        "true; DROP TABLE x": "Parser Error",
        "error('no')": "no",
    }.items():
        refused = bulk(source, tmp_path / f"out {words}", "--where", where)
        assert refused.code > 0, where
        assert words in refused.messages, where


def test_a_csv_is_scored_as_the_same_table_in_parquet(bulk: Bulk, tmp_path: Path) -> None:
    table = applications(2_000, seed=5)
    for name, sign in {"commas": ",", "semicolons": ";"}.items():
        (tmp_path / name).mkdir()
        pcsv.write_csv(table, tmp_path / name / "x.csv", pcsv.WriteOptions(delimiter=sign))
    (tmp_path / "parquet").mkdir()
    pq.write_table(table, tmp_path / "parquet" / "x.parquet")
    expected = bulk(tmp_path / "parquet", tmp_path / "out parquet")
    for name in ("commas", "semicolons"):
        ended = bulk(tmp_path / name, tmp_path / f"out {name}")
        assert ended.code == 0, ended.messages
        # "None" is a category here, and an empty text means missing.
        for column in ("source_row", "score_points", "decision", "grade"):
            assert ended.scores[column] == expected.scores[column], column
        assert ended.rejected["source_row"] == expected.rejected["source_row"]


def write_stream(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1_000)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.feather", lambda table, file: feather.write_feather(table, file, compression="lz4", chunksize=700)),
        ("x.arrow", lambda table, file: feather.write_feather(table, file, compression="uncompressed")),
        ("stream.ARROW", write_stream),
        ("x.Parquet", pq.write_table),
        ("x.CSV", pcsv.write_csv),
    ],
)
def test_each_format_is_scored_as_the_same_table_in_parquet(
    bulk: Bulk, tmp_path: Path, name: str, write: Callable[[pa.Table, Path], None]
) -> None:
    table = applications(10_000, seed=5)
    for folder in ("in", "parquet"):
        (tmp_path / folder).mkdir()
    write(table, tmp_path / "in" / name)
    pq.write_table(table, tmp_path / "parquet" / "x.parquet")
    condition = ("--where", "CAST(account AS BIGINT) % 3 > 0")
    expected = bulk(tmp_path / "parquet", tmp_path / "out parquet", *condition)
    ended = bulk(tmp_path / "in", tmp_path / "out", *condition)
    assert ended.code == 0, ended.messages
    assert ended.summary["rows"] == 10_000
    for column in ("source_row", "score_points", "decision", "grade"):
        assert ended.scores[column] == expected.scores[column], column
    assert ended.rejected["source_row"] == expected.rejected["source_row"]


def test_files_that_are_left_out_are_counted_and_the_first_are_named(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    for name in ("_SUCCESS", ".a.csv.crc", *(f"{n}.csv.gz" for n in range(7))):
        (source / name).write_text("")
    ended = bulk(source, tmp_path / "out")
    assert (ended.code, ended.summary["rows"]) == (0, 3_000)
    said = "files left out as their names do not end in .parquet or .csv or .arrow or .feather: 7 (0.csv.gz, 1.csv.gz, "
    assert f"{said}2.csv.gz, 3.csv.gz, 4.csv.gz, ...)\n" in ended.messages
    assert not re.search("_SUCCESS|crc", ended.messages)


def test_a_file_without_a_feature_is_named_before_anything_is_done(bulk: Bulk, source: Path, tmp_path: Path) -> None:
    pq.write_table(applications(3).drop_columns(["income"]), source / "x.parquet")
    ended = bulk(source, tmp_path / "out")
    assert (ended.code, "x.parquet: income is missing" in ended.messages) == (2, True), ended.messages
    assert not (tmp_path / "out").exists()


def test_names_of_results_are_refused_as_names_of_columns(bulk: Bulk, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(applications(3).append_column("decision", pa.array(["a"] * 3)), tmp_path / "in" / "x.parquet")
    ended = bulk(tmp_path / "in", tmp_path / "out")
    assert (ended.code, "the columns decision are called as those of the results" in ended.messages) == (2, True)
    missing = bulk(tmp_path / "in", tmp_path / "out", "--keep", "nobody")
    assert missing.code == 2


def test_tables_without_rows_have_results_without_rows(bulk: Bulk, tmp_path: Path) -> None:
    ended = bulk(write_input(tmp_path / "in", {"empty.parquet": 0}), tmp_path / "out")
    assert (ended.code, ended.summary["rows"], ended.scores.num_rows) == (0, 0, 0)
    assert "probability_of_default" in ended.scores.schema.names


def test_a_folder_without_data_is_refused(bulk: Bulk, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "_notes.csv").write_text("a,b\n")
    ended = bulk(tmp_path / "in", tmp_path / "out")
    assert ended.code == 2
    assert "no file whose name ends in .parquet or .csv or .arrow or .feather, and" in ended.messages
    elsewhere = bulk("gs://bucket/in", tmp_path / "out")
    assert (elsewhere.code, "allowed are a path and s3://BUCKET/PREFIX" in elsewhere.messages) == (2, True)


def test_people_read_a_summary_of_their_own(
    bulk: Bulk, source: Path, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), str(tmp_path / "out"), "--model", str(folder)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"3,000  rows\n", told)
    assert re.search(r"\d+  rejected for income\n", told)
    assert told.endswith(f"the results are in {tmp_path}/out/scores\n")
    ended = bulk(source, tmp_path / "out", "--reasons", "100")
    assert (ended.code, "this model can give at most 8" in ended.messages) == (2, True), ended.messages


def test_a_version_needs_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main([str(tmp_path), str(tmp_path / "out"), "--version", "7"]) == 2
    assert "--version needs --registry, or MLFLOW_TRACKING_URI" in caplog.text
    assert main([str(tmp_path), str(tmp_path / "out"), "--version", "7", "--registry", "http://127.0.0.1:1"]) == 1
