"""Claims in a real S3 store: what a process creates no other one does, and a killed process's shard is taken over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditrisk_scoring.claims import CLAIMS, Claims
from creditrisk_scoring.command import main
from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import BulkError, ClaimLostError
from creditrisk_scoring.folders import Folder, open_folder
from creditrisk_scoring.manifest import Shard
from creditrisk_scoring.status import read_status
from localcluster.console import wait_for
from s3_store import bucket_in_environment
from unit.creditrisk_scoring.applications import write_input
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model

pytestmark = pytest.mark.slow
BUCKET = "book"
# The shortest that S3's whole seconds allow.
LEASE = 4.0
SHARD = Shard(0, 0, (0, 1), 0, 500)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with bucket_in_environment(tmp_path_factory.mktemp("store"), BUCKET) as variables:
        yield variables


@pytest.fixture
def target(store: dict[str, str], request: pytest.FixtureRequest) -> Folder:
    return open_folder(f"s3://{BUCKET}/{request.node.name}")


def test_of_many_at_the_same_time_one_creates_an_object(target: Folder) -> None:
    for attempt in range(5):
        name = f"x/{attempt}"
        with ThreadPoolExecutor(8) as pool:
            made = list(
                pool.map(lambda content, name=name: create(target, name, content), [b"%d" % n for n in range(8)])
            )
        assert made.count(True) == 1
        assert target.read(name) == b"%d" % made.index(True)


def test_a_store_that_refuses_is_named_with_its_words(target: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BulkError, match=r"(?s)s3://No Bucket/x: .*Invalid bucket name"):
        create(Folder("s3://No Bucket", target.filesystem, "No Bucket"), "x", b"")
    # Another client, as it is of another region.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(BulkError, match=f"{target.url}/x: .*SignatureDoesNotMatch"):
        create(target, "x", b"")


def test_a_claim_in_s3_is_kept_taken_over_and_given_back(target: Folder) -> None:
    clock = iter(range(0, 1_000, 5)).__next__
    first, second = Claims(target, "a", LEASE, clock), Claims(target, "b", LEASE, clock)
    first.look()
    held = first.take(SHARD)
    assert held is not None
    second.look()
    over = second.take(SHARD)
    assert over is not None, "five seconds of its clock have passed"
    with pytest.raises(ClaimLostError):
        held.confirm()
    over.give_back()
    first.look()
    assert first.take(SHARD) is not None


def test_processes_share_a_bucket_and_take_over_from_one_that_is_killed(target: Folder, tmp_path: Path) -> None:
    """Three processes, of which one is killed at a shard; the output is that of one alone."""
    (tmp_path / "model").mkdir()
    model = write_model(tmp_path / "model", **GRADED_CONTRACT)
    source = write_input(tmp_path / "in", {"a.parquet": 20_000}, group_rows=2_000)
    options = ["--model", str(model), "--shard-rows", "2000", "--reasons", "2"]
    assert main([str(source), str(tmp_path / "alone"), *options]) == 0
    command = [sys.executable, "-m", "creditrisk_scoring", "score", str(source), target.url, *options,
               "--lease", str(LEASE)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen([*command, "--worker", "killed"], env=environment) as victim:
        wait_for("a claim", lambda: None if target.files(CLAIMS) else "there is none", timeout_seconds=60)
        victim.send_signal(signal.SIGKILL)
    others = [subprocess.Popen([*command, "--worker", name], env=environment) for name in ("b", "c")]
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    status = read_status(target)
    assert (status.state, status.shards_done, status.rows_read) == ("done", 10, 20_000)
    assert sum(worker.shards_done for worker in status.workers) == 10
    for kind in ("scores", "rejected"):
        assert table_of(target, kind) == table_of(open_folder(str(tmp_path / "alone")), kind)
    assert target.read("summary.json") == (tmp_path / "alone" / "summary.json").read_bytes()


def table_of(folder: Folder, kind: str) -> pa.Table:
    tables = []
    for info in folder.files(kind):
        with folder.open(folder.name_of(info)) as file:
            tables.append(pq.read_table(file))
    return pa.concat_tables(tables)
