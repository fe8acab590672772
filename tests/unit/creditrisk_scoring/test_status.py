"""How far a run is: computed from notes and claims, read from a folder, said to people, and shown to Prometheus."""

from __future__ import annotations

import json
import math
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from creditrisk_scoring import status_command
from creditrisk_scoring.claims import CLAIMS, Claim, Claims
from creditrisk_scoring.distributions import psi as bulk_psi
from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.failures import Failure
from creditrisk_scoring.folders import open_folder
from creditrisk_scoring.manifest import Shard
from creditrisk_scoring.metrics import BulkMetrics, served_metrics
from creditrisk_scoring.results import Counts
from creditrisk_scoring.running import run_all
from creditrisk_scoring.shards import Note, Run
from creditrisk_scoring.status import FailedShard, Found, WorkerStatus, find, status_of
from creditrisk_scoring.status_command import told
from decisions.drift.distance import psi
from processes import free_port
from unit.creditrisk_scoring.applications import write_input
from unit.creditrisk_scoring.conftest import Ended
from unit.creditrisk_scoring.test_claims import LEASE, run

__all__ = ["run"]
SHARDS = [(Shard(number, 0, (number, number + 1), number * 1_000, 1_000), "a.parquet") for number in range(5)]
FOUND = Found(
    SHARDS,
    {"part-00000": Note(Counts(1_000, 900, 100, 90, (450, 450), {"income": 100}), "pod-a", 10.0),
     "part-00001": Note(Counts(1_000, 1_000, 0, 90, (500, 500), {}), "pod-b", 5.0)},
    # The claim of a shard that is done says nothing.
    {"part-00001": Claim("pod-b", 1_000, 5.0, LEASE), "part-00002": Claim("pod-a", 200, 2.0, LEASE)},
    {"part-00003": Failure("pod-b", "a.parquet cannot be read"), "part-00002": Failure("pod-b", "connection reset")},
    summarized=False,
)  # fmt: skip


def test_a_run_in_progress_has_the_speed_and_the_time_left_of_who_is_at_it() -> None:
    status = status_of(FOUND)
    assert (status.state, status.shards, status.shards_done) == ("running", 5, 2)
    assert (status.rows, status.rows_read, status.scored, status.rejected) == (5_000, 2_200, 1_900, 100)
    assert status.workers == (
        WorkerStatus("pod-a", 1, 1_200, "part-00002", 200, 100.0),
        WorkerStatus("pod-b", 1, 1_000),
    )
    assert (status.rows_per_second, status.seconds_left) == (100.0, 28.0)
    # Somebody is at the other one again.
    assert status.failed == (FailedShard("part-00003", "a.parquet", "pod-b", "a.parquet cannot be read"),)


def test_people_read_how_far_it_is() -> None:
    said = told(status_of(FOUND), bar=True).splitlines()
    assert said == [
        "█████████████████░░░░░░░░░░░░░░░░░░░░░░░ 44%",
        "in progress: 2 of 5 shards, 2,200 of 5,000 rows read, 100 rejected",
        "100 rows/s, 0:00:28 left",
        "  pod-a: 1 shard, 1,200 rows, at part-00002, 100 rows/s",
        "  pod-b: 1 shard, 1,000 rows, at no shard",
        "part-00003 of a.parquet failed (pod-b): a.parquet cannot be read",
    ]


def test_without_a_number_of_rows_the_time_left_is_unknown() -> None:
    unknown = Found([(Shard(0, 0, None, 0, None), "a.csv")], {}, {"part-00000": Claim("a", 50, 1.0, LEASE)}, {}, False)
    status = status_of(unknown)
    assert (status.rows, status.rows_read, status.seconds_left) == (None, 50, None)
    assert told(status, bar=True).splitlines()[0].endswith(" 0%")
    assert "50 rows/s, time left unknown" in told(status, bar=False)
    empty = Found([(Shard(0, 0, (0, 0), 0, 0), "a.parquet")], {}, {}, {}, summarized=False)
    assert told(status_of(empty), bar=True).splitlines()[0].endswith(" 0%")


def test_the_status_of_a_folder_is_read_while_it_is_scored_and_afterwards(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = run.target
    claims = Claims(target, "pod-1", LEASE)
    claims.look()
    held = claims.take(run.manifest.shards[2])
    assert held
    held.rows = 100
    (written := tmp_path / "out" / CLAIMS / "part-00002.1").write_bytes(held.document())
    at = written.stat().st_mtime
    assert status_of(find(target, at)).workers[0].shard == "part-00002"
    # A process of which nothing was heard for long is not at it any more.
    late = status_of(find(target, at + 2 * LEASE + 1))
    assert (late.state, late.workers) == ("idle", ())
    held.give_back()
    assert status_of(find(target, at)).state == "idle"
    run_all(run, claims, _Silent())
    assert status_command.main([target.url, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["rows"], status["rows_read"], status["seconds_left"]) == ("done", 3_000, 3_000, 0)
    assert [worker["shards_done"] for worker in status["workers"]] == [6]
    assert status_command.main([target.url]) == 0
    assert capsys.readouterr().out.startswith("done: 6 of 6 shards, 3,000 of 3,000 rows read")


def test_failures_are_shown_until_the_shard_is_done(
    bulk: Callable[..., Ended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_input(tmp_path / "in", {"a.parquet": 500, "b.parquet": 500})
    (changed := source / "b.parquet").rename(tmp_path / "kept")
    write_input(source, {"b.parquet": 20})
    assert bulk(source, tmp_path / "out", "--shard-rows", "500").code == 0
    (tmp_path / "out" / "summary.json").unlink()
    (tmp_path / "out" / "_bulk" / "done" / "part-00001.json").unlink()
    (tmp_path / "kept").rename(changed)
    assert bulk(source, tmp_path / "out", "--shard-rows", "500", "--worker", "pod-9").code == 3
    assert status_command.main([str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("done, but for files that cannot be scored: 1 of 2 shards")
    assert "part-00001 of b.parquet failed (pod-9): b.parquet has changed since it was listed" in said


def test_a_folder_without_a_run_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} has no run: _bulk/manifest.json does not exist"):
        find(open_folder(str(tmp_path)), 0)
    assert status_command.main([str(tmp_path)]) == 2
    assert "allowed: the output folder of one" in caplog.text


class _Silent:
    def whole(self, *_: object) -> None: ...

    def rows(self, *_: object) -> None: ...

    def finished(self, *_: object) -> None: ...

    def failed(self, *_: object) -> None: ...


def test_prometheus_reads_what_a_process_has_done(run: Run) -> None:
    port = free_port()
    with served_metrics(port) as metrics:
        summary = run_all(run, Claims(run.target, "pod-1", LEASE), metrics)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
        with pytest.raises(UsageError, match=f"--metrics-port {port}: "), served_metrics(port):
            pass
    found = dict(re.findall(r"^(bulk_[^ ]+) (\S+)$", text, re.MULTILINE))
    assert {name: float(value) for name, value in found.items() if not name.split("{")[0].endswith("_created")} == {
        "bulk_rows_read_total": 3_000,
        'bulk_rows_total{outcome="scored"}': summary["scored"],
        'bulk_rows_total{outcome="rejected"}': summary["rejected"],
        'bulk_rows_total{outcome="excluded"}': 0,
        'bulk_shards_total{result="done"}': 6,
        'bulk_shards_total{result="failed"}': 0,
        "bulk_run_shards": 6,
        "bulk_run_done_shards": 6,
        "bulk_run_rows": 3_000,
        "bulk_run_done_rows": 3_000,
        "bulk_run_left_seconds": 0,
    }


def test_prometheus_reads_how_long_the_run_takes_yet_by_what_all_processes_do() -> None:
    now = 100.0
    metrics = BulkMetrics(lambda: now)
    shards = [shard for shard, _ in SHARDS]

    def left() -> float | None:
        return metrics.registry.get_sample_value("bulk_run_left_seconds")

    # What was done before this process began says nothing of the speed.
    metrics.whole(shards, shards[:1])
    assert left() == pytest.approx(math.nan, nan_ok=True)
    now += 10
    metrics.whole(shards, shards[:3])
    assert (left(), metrics.registry.get_sample_value("bulk_run_done_rows")) == (10, 3_000)
    now += 10
    metrics.whole(shards, shards[:3])
    assert left() == 20
    metrics.whole([*shards, Shard(5, 1, None, 0, None)], shards)
    for name in ("bulk_run_rows", "bulk_run_left_seconds"):
        assert metrics.registry.get_sample_value(name) == pytest.approx(math.nan, nan_ok=True)


def test_the_drift_of_scores_is_what_a_drift_report_says_of_the_same_counts() -> None:
    draw = np.random.default_rng(3)
    for _ in range(50):
        counts, reference = draw.integers(0, 40, (2, 12)) * (draw.random((2, 12)) < 0.7)
        counts[0] = reference[1] = 1
        expected = float(psi(counts.astype(float), reference.astype(float)))
        assert bulk_psi(counts.tolist(), reference.tolist()) == pytest.approx(expected, abs=2e-6)
    assert bulk_psi([0, 0], [5, 5]) is None
    assert bulk_psi([5, 5], [500, 500]) == 0


def test_a_file_that_is_of_another_program_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out" / CLAIMS).mkdir(parents=True)
    (tmp_path / "out" / CLAIMS / "part-00000.1").write_text("held by Bob")
    with pytest.raises(BulkError, match=r"_bulk/claims/part-00000\.1 is not of this program"):
        find(run.target, 0)
