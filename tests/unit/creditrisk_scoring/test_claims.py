"""Claims: of several processes one scores a shard, and whoever takes over from a dead one publishes once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from creditrisk_scoring import stopping
from creditrisk_scoring.claims import CLAIMS, Claim, Claims, HeldClaim
from creditrisk_scoring.conditions import refuse_condition, selected
from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import BulkError, ClaimLostError
from creditrisk_scoring.folders import STAGING, Folder, open_folder
from creditrisk_scoring.manifest import Request, Shard, read_or_make
from creditrisk_scoring.progress import Several
from creditrisk_scoring.running import SUMMARY, run_all
from creditrisk_scoring.scoring import Version
from creditrisk_scoring.shards import DONE, Note, Run, note_of, score_shard
from localcluster.console import wait_for
from unit.creditrisk_scoring.applications import write_input
from unit.creditrisk_scoring.conftest import table_of

LEASE = 60.0
SHARD = Shard(0, 0, (0, 1), 0, 500)


class Clock:
    """Seconds that pass only when told, or when somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(tmp_path: Path, clock: Clock) -> Callable[[str], Claims]:
    target = open_folder(str(tmp_path / "out"))
    return lambda name: Claims(target, name, LEASE, clock, clock.pass_)


@pytest.fixture
def run(tmp_path: Path, version: Version) -> Run:
    """A run of six shards."""
    source = open_folder(str(write_input(tmp_path / "in", {"a.parquet": 3_000})))
    return run_of(source, open_folder(str(tmp_path / "out")), version)


def run_of(source: Folder, target: Folder, version: Version) -> Run:
    request = Request(source.root, dict(version.digests), (600.0, 50.0, 20.0), 0, "", None, 500)
    return Run(read_or_make(source, target, request, version), source, target, version)


def taken(claims: Claims, shard: Shard = SHARD) -> HeldClaim:
    """Look, and claim a shard that is free."""
    claims.look()
    held = claims.take(shard)
    assert held is not None
    return held


def test_of_many_at_the_same_time_one_creates_a_file(tmp_path: Path) -> None:
    target = open_folder(str(tmp_path))
    for attempt in range(20):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda name: create(target, f"x/{attempt}", name), [b"%d" % n for n in range(8)]))  # noqa: B023
        assert made.count(True) == 1
        assert target.read(f"x/{attempt}") == b"%d" % made.index(True)
    assert target.files(STAGING) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BulkError, match=f"{tmp_path}/file/x: .*Not a directory"):
        create(open_folder(str(tmp_path / "file")), "x", b"")


def test_a_claim_is_taken_over_only_after_a_lease_without_a_change(
    worker: Callable[[str], Claims], clock: Clock
) -> None:
    first, second = worker("a"), worker("b")
    held = taken(first)
    for _ in range(10):
        clock.pass_(LEASE / 2)
        held.progressed(100)
        second.look()
        assert second.take(SHARD) is None
    # From here on nothing is heard of the first. Its last change was seen just now.
    clock.pass_(LEASE - 1)
    second.look()
    assert second.take(SHARD) is None
    clock.pass_(1)
    second.look()
    over = second.take(SHARD)
    assert over is not None
    assert over.number == 2
    with pytest.raises(ClaimLostError, match="part-00000 was taken over by another process"):
        held.confirm()
    with pytest.raises(ClaimLostError):
        held.progressed(100)
    over.confirm()


def test_whoever_comes_later_waits_a_lease_of_its_own(worker: Callable[[str], Claims], clock: Clock) -> None:
    taken(worker("a"))
    clock.pass_(100 * LEASE)
    late = worker("b")
    late.look()
    assert late.take(SHARD) is None
    clock.pass_(LEASE)
    assert late.take(SHARD) is not None


def test_a_claim_that_is_given_back_is_free_at_once(worker: Callable[[str], Claims]) -> None:
    taken(worker("a")).give_back()
    assert taken(worker("b")).number == 2


def test_what_was_taken_over_cannot_be_given_back(worker: Callable[[str], Claims], clock: Clock) -> None:
    first, second, third = worker("a"), worker("b"), worker("c")
    held = taken(first)
    second.look()
    clock.pass_(LEASE)
    taken(second)
    held.give_back()
    third.look()
    assert third.take(SHARD) is None


def test_of_many_that_take_over_one_does(worker: Callable[[str], Claims], clock: Clock) -> None:
    taken(worker("dead"))
    others = [worker(f"w{number}") for number in range(8)]
    for other in others:
        other.look()
    clock.pass_(LEASE)
    with ThreadPoolExecutor(len(others)) as pool:
        held = [claim for claim in pool.map(lambda other: other.take(SHARD), others) if claim is not None]
    assert len(held) == 1


def test_a_claim_says_who_is_how_far(worker: Callable[[str], Claims], clock: Clock, tmp_path: Path) -> None:
    held = taken(worker("pod-1"))
    clock.pass_(20)
    held.progressed(8_192)
    said = msgspec.json.decode((tmp_path / "out" / CLAIMS / "part-00000.1").read_bytes(), type=Claim)
    assert said == Claim("pod-1", 8_192, 20.0, LEASE)


def test_a_file_that_is_no_claim_is_named(worker: Callable[[str], Claims], tmp_path: Path) -> None:
    (tmp_path / "out" / CLAIMS).mkdir(parents=True)
    (tmp_path / "out" / CLAIMS / "notes.txt").write_text("")
    with pytest.raises(BulkError, match=r"_bulk/claims/notes\.txt is no claim of this program"):
        worker("a").look()


def test_a_worker_that_was_overtaken_publishes_nothing(
    run: Run, worker: Callable[[str], Claims], clock: Clock, tmp_path: Path
) -> None:
    slow, quick = worker("slow"), worker("quick")
    shard = run.manifest.shards[0]
    held = taken(slow, shard)
    quick.look()

    def overtake(_: int) -> None:
        clock.pass_(LEASE)
        score_shard(run, taken(quick, shard), lambda _: None)

    with pytest.raises(ClaimLostError):
        score_shard(run, held, overtake)
    note = msgspec.json.decode((tmp_path / "out" / "_bulk" / "done" / "part-00000.json").read_bytes(), type=Note)
    assert (note.worker, note.counts.read) == ("quick", 500)
    assert len(table_of(tmp_path / "out" / "scores")) == note.counts.scored


def test_of_two_that_publish_the_same_shard_one_has_done_it(run: Run, worker: Callable[[str], Claims]) -> None:
    shard = run.manifest.shards[0]
    first = taken(worker("a"), shard)
    first.confirm = lambda: None  # type: ignore[method-assign]  # it looked just before the other one came
    assert score_shard(run, taken(given_up(worker, first), shard), lambda _: None).read == 500
    with pytest.raises(ClaimLostError, match="was done by another process in the meantime"):
        score_shard(run, first, lambda _: None)


def given_up(worker: Callable[[str], Claims], held: HeldClaim) -> Claims:
    held.give_back()
    return worker("b")


def test_workers_share_a_run_and_each_shard_is_done_once(
    run: Run, worker: Callable[[str], Claims], tmp_path: Path, version: Version
) -> None:
    alone = run_of(run.source, open_folder(str(tmp_path / "alone")), version)
    expected = run_all(alone, Claims(alone.target, "alone", LEASE), Several())
    workers = [Claims(run.target, name, LEASE, sleep=lambda _: None) for name in "abc"]
    with ThreadPoolExecutor(len(workers)) as pool:
        summaries = list(pool.map(lambda claims: run_all(run, claims, Several()), workers))
    assert summaries == [expected] * 3
    for kind in ("scores", "rejected"):
        assert table_of(tmp_path / "out" / kind) == table_of(tmp_path / "alone" / kind)
    left = {path.name for path in (tmp_path / "out" / "_bulk").rglob("*") if path.is_file()}
    assert left == {"manifest.json", *(f"{shard.name}.json" for shard in run.manifest.shards)}


def test_a_worker_waits_for_a_shard_of_another_and_takes_it_over_if_that_one_is_dead(
    run: Run, worker: Callable[[str], Claims], clock: Clock
) -> None:
    taken(worker("dead"), run.manifest.shards[3])
    began = clock()
    summary = run_all(run, worker("b"), Several())
    assert (summary["rows"], summary["shards"]) == (3_000, 6)
    assert LEASE <= clock() - began <= LEASE + 5


@pytest.mark.parametrize("where", ["", "account >= 0"])
def test_a_shard_that_another_takes_over_while_it_is_read_has_not_failed(
    run: Run, worker: Callable[[str], Claims], clock: Clock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    request = msgspec.structs.replace(run.manifest.request, where=where)
    run = replace(run, manifest=msgspec.structs.replace(run.manifest, request=request))
    progressed, others = HeldClaim.progressed, iter(["quick"])

    def overtaken(self: HeldClaim, rows: int) -> None:
        if name := next(others, None):
            (other := worker(name)).look()
            clock.pass_(LEASE)
            assert other.take(self.shard)
        progressed(self, rows)

    monkeypatch.setattr(HeldClaim, "progressed", overtaken)
    began = clock()
    assert run_all(run, worker("slow"), Several())["rows"] == 3_000
    # The other one has died, so its shard was taken over in turn.
    assert clock() - began >= 2 * LEASE


@pytest.mark.parametrize("before", [None, b"of a run that was not complete"])
def test_of_two_that_end_together_none_fails_as_the_other_deletes_what_it_is_staging(
    run: Run, worker: Callable[[str], Claims], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    link, staged, others = os.link, Folder.staged, iter(["b"])
    found: list[Any] = []

    def meet(name: str) -> None:
        """Let another process end, once, just before this one publishes its summary."""
        if name.endswith(SUMMARY) and (other := next(others, None)):
            found.append(run_all(run, worker(other), Several()))

    def meeting_link(aside: Path, target: Path) -> None:
        meet(target.name)
        link(aside, target)

    @contextmanager
    def meeting_staged(self: Folder, name: str) -> Iterator[pa.NativeFile]:
        with staged(self, name) as stream:
            yield stream
            meet(name)

    monkeypatch.setattr(Folder, "staged", meeting_staged)
    if before is None:
        monkeypatch.setattr(os, "link", meeting_link)
    else:
        (tmp_path / "out" / SUMMARY).write_bytes(before)
    found.append(run_all(run, worker("a"), Several()))
    written = msgspec.json.format((tmp_path / "out" / SUMMARY).read_bytes(), indent=-1)
    assert [msgspec.json.encode(summary) for summary in found] == [written] * 2
    assert run.target.files(STAGING) == []


def test_a_store_that_does_not_say_what_a_file_is_costs_one_shard_whose_claim_is_given_back(
    run: Run, worker: Callable[[str], Claims], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, failing = Folder.state, iter([True])

    def asked(self: Folder, name: str) -> tuple[int, int] | None:
        if self is run.source and next(failing, False):
            raise BulkError("in/a.parquet: connection reset by peer")
        return state(self, name)

    monkeypatch.setattr(Folder, "state", asked)
    with pytest.raises(BulkError, match=r"1 of 6 shards failed"):
        run_all(run, worker("a"), Several())
    assert [run.target.name_of(info) for info in run.target.files(DONE)] == [
        note_of(shard) for shard in run.manifest.shards[1:]
    ]
    # So nobody waits for the end of a lease.
    began = clock()
    assert run_all(run, worker("b"), Several())["rows"] == 3_000
    assert clock() == began


def test_a_process_that_is_told_to_end_gives_its_claim_back(tmp_path: Path, folder: Path) -> None:
    source = write_input(tmp_path / "in", {"a.parquet": 50_000}, group_rows=50_000)
    command = [sys.executable, "-m", "creditrisk_scoring", "score", str(source), str(tmp_path / "out"),
               "--model", str(folder), "--reasons", "4"]  # fmt: skip
    claim = tmp_path / "out" / CLAIMS / "part-00000.1"
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}) as pod:
        wait_for("the claim", lambda: None if claim.exists() else "no claim", timeout_seconds=60)
        pod.send_signal(signal.SIGTERM)
        assert pod.wait() == 128 + signal.SIGTERM
    assert claim.read_bytes() == b""
    assert not (tmp_path / "out" / "scores").exists()


# Tells itself to end while a file is read; the rest is the command.
_TOLD_TO_END = """
import os, runpy, signal
from creditrisk_scoring.sources import Source

read = Source.batches

def batches(*args):
    os.kill(os.getpid(), signal.SIGTERM)
    yield from read(*args)

Source.batches = batches
runpy.run_module("creditrisk_scoring", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("condition", [(), ("--where", "account >= 0")])
def test_a_process_that_is_told_to_end_while_it_reads_begins_no_other_shard(
    tmp_path: Path, folder: Path, condition: tuple[str, ...]
) -> None:
    source = write_input(tmp_path / "in", {"a.parquet": 1_500})
    command = [sys.executable, "-c", _TOLD_TO_END, "score", str(source), str(tmp_path / "out"), "--model", str(folder),
               "--shard-rows", "500", *condition]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr.decode()
    assert {file.name: file.read_bytes() for file in (tmp_path / "out" / CLAIMS).iterdir()} == {"part-00000.1": b""}
    assert not (tmp_path / "out" / "_bulk" / "failed").exists()


@pytest.mark.parametrize(
    "fails",
    [
        lambda batch: refuse_condition(batch.schema, "nothing > 1"),
        lambda batch: list(selected(batch.schema, iter([batch]), "CAST(word AS INT) > 0")),
    ],
)
def test_a_signal_that_duckdb_makes_an_error_of_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[pa.RecordBatch], object]
) -> None:
    """As when it comes while DuckDB calls Python for something else than rows."""
    monkeypatch.setattr(stopping, "_received", [])
    batch = pa.record_batch({"word": ["x"]})
    with pytest.raises(BulkError, match="--where '"):
        fails(batch)
    with pytest.raises(SystemExit):
        stopping.stop(signal.SIGTERM, None)
    with pytest.raises(SystemExit) as ended:
        fails(batch)
    assert ended.value.code == 128 + signal.SIGTERM
