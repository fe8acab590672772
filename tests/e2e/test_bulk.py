"""Bulk scoring on the cluster: pods are killed until all is done, and a Job that was deleted is made again."""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditrisk_scoring.command import main
from creditrisk_scoring.folders import Folder, open_folder
from creditrisk_scoring.running import SUMMARY
from creditrisk_scoring.status import read_status
from e2e.kubernetes_api import Document
from e2e.model_versions import download_production
from e2e.pods import processes, sigkill
from e2e.registry_client import registry_client
from localcluster.console import say, wait_for
from localcluster.images import DECISIONS
from localcluster.object_store import BUCKET, PORT
from localcluster.port_forward import PortForward
from localcluster.stack import CHART, RELEASE, Stack
from trainer.data.synthetic import generate

# Five minutes for both.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
PODS, MODULE = "app.kubernetes.io/name=bulk", "creditrisk_scoring"
ROWS, SHARD_ROWS, LEASE_SECONDS = 240_000, 20_000, 10
KILLS = 6
# With reasons a shard takes seconds, so that pods are killed in the middle of one.
OPTIONS = ["--reasons", "2", "--shard-rows", str(SHARD_ROWS)]


@dataclass(frozen=True)
class Bulk:
    """The stack's bulk scoring, and what it leaves in the store.

    Attributes:
        stack: The installed stack.
        output: The output folder.
        version: Of the model.
        images: The values of the image.
    """

    stack: Stack
    output: Folder
    version: str
    images: tuple[str, ...]

    def start(self, source: str, run: str = "1") -> None:
        """Upgrade the release to one with a Job."""
        values = {
            "enabled": "true", "input": source, "output": self.output.url, "reasons": "2", "shardRows": str(SHARD_ROWS),
            "leaseSeconds": str(LEASE_SECONDS), "resources.requests.cpu": "100m",
        }  # fmt: skip
        self._upgrade(
            *(f"--set=bulk.{name}={value}" for name, value in values.items()), *self.images,
            f"--set-string=bulk.model.version={self.version}", f"--set-string=bulk.run={run}",
        )  # fmt: skip

    def remove(self) -> None:
        """Upgrade the release to one without bulk scoring."""
        self._upgrade("--set=bulk.enabled=false")

    def _upgrade(self, *values: str) -> None:
        self.stack.build_charts()
        self.stack.helm("upgrade", RELEASE, str(CHART), "--namespace", self.stack.namespace, "--reuse-values", *values)

    def pods(self) -> list[Document]:
        """Return the pods that run."""
        found = json.loads(self.stack.kubectl("get", "pods", "-l", PODS, "-o", "json"))["items"]
        return [
            pod
            for pod in found
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def jobs(self) -> list[Document]:
        """Return the Jobs."""
        found: list[Document] = json.loads(self.stack.kubectl("get", "jobs", "-l", PODS, "-o", "json"))["items"]
        return found

    def wait_until_done(self) -> None:
        """Wait until the Job is complete, and the run with it."""
        wait_for("the Job of bulk scoring", self._not_complete, timeout_seconds=900)
        assert read_status(self.output).state == "done"

    def _not_complete(self) -> str | None:
        (job,) = self.jobs()
        conditions = {item["type"] for item in job["status"].get("conditions", []) if item["status"] == "True"}
        assert "Failed" not in conditions, self.stack.kubectl("logs", "-l", PODS, "--tail=20")
        return None if "Complete" in conditions else str(job["status"])


@contextmanager
def object_store(stack: Stack) -> Iterator[None]:
    """Let this process reach the stack's object store as AWS's variables say."""
    secret = json.loads(stack.kubectl("get", "secret", "s3-credentials", "-o", "jsonpath={.data}"))
    with PortForward(stack.kubectl_command(), "service/s3", PORT, stack.environment()) as url:
        variables = {
            "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": base64.b64decode(secret["access-key-id"]).decode(),
            "AWS_SECRET_ACCESS_KEY": base64.b64decode(secret["secret-access-key"]).decode(),
        }  # fmt: skip
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def book(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The applications, and what an undisturbed run makes of them on this machine."""
    folder = tmp_path_factory.mktemp("bulk")
    (folder / "in").mkdir()
    loans = generate(ROWS, 11)
    loans.loc[::997, "credit_score"] = 9_999
    pq.write_table(
        pa.Table.from_pandas(loans, preserve_index=False), folder / "in" / "book.parquet", row_group_size=SHARD_ROWS
    )
    with registry_client(stack):
        model = download_production(folder / "model")
    assert main([str(folder / "in"), str(folder / "out"), "--model", str(model), *OPTIONS]) == 0
    with object_store(stack):
        yield folder / "in", folder / "out"


@pytest.fixture
def bulk(stack: Stack, book: tuple[Path, Path]) -> Iterator[Bulk]:
    source, _ = book
    with registry_client(stack) as registry:
        version = registry.get_model_version_by_alias("credit-risk", "production").version
    repository, _, tag = stack.cluster.images((DECISIONS,))["decisions"].rpartition(":")
    images = (f"--set=bulk.image.repository={repository}", f"--set-string=bulk.image.tag={tag}")
    folder = f"s3://{BUCKET}/bulk-{int(time.time()):x}-{secrets.token_hex(2)}"
    with (source / "book.parquet").open("rb") as file, open_folder(f"{folder}/in").staged("book.parquet") as copy:
        copy.write(file.read())
    found = Bulk(stack, open_folder(f"{folder}/out"), str(version), images)
    try:
        found.start(f"{folder}/in")
        yield found
    finally:
        found.remove()


def at_work(bulk: Bulk) -> str | None:
    """Return None while a pod is at a shard, or all is done."""
    if bulk.output.state("_bulk/manifest.json") is None:
        return "the run has not begun"
    status = read_status(bulk.output)
    names = {pod["metadata"]["name"] for pod in bulk.pods()}
    # Claims of killed pods are there until their leases end.
    alive = [worker.name for worker in status.workers if worker.shard and worker.name in names]
    return None if alive or status.state == "done" else f"no pod is at a shard: {status}"


def no_shard_done(bulk: Bulk) -> str | None:
    return at_work(bulk) or (None if read_status(bulk.output).shards_done else "no shard is done")


def assert_as_undisturbed(bulk: Bulk, undisturbed: Path) -> None:
    """Compare every row, and the summary."""
    for kind in ("scores", "rejected"):
        found = sorted(bulk.output.name_of(info) for info in bulk.output.files(kind))
        tables = []
        for name in found:
            with bulk.output.open(name) as file:
                tables.append(pq.read_table(file))
        expected = [pq.read_table(file) for file in sorted((undisturbed / kind).iterdir())]
        assert [f"{kind}/{file.name}" for file in sorted((undisturbed / kind).iterdir())] == found
        assert pa.concat_tables(tables) == pa.concat_tables(expected), kind
    assert bulk.output.read(SUMMARY) == (undisturbed / SUMMARY).read_bytes()


def kill(bulk: Bulk, draw: random.Random) -> int:
    """Kill a pod: its processes, which then cannot give a claim back, or all of it. Return how many were killed."""
    wait_for("a pod at work", partial(at_work, bulk), timeout_seconds=240)
    if not (pods := bulk.pods()):
        return 0
    pod = draw.choice(pods)
    # On clusters whose nodes are not this machine, none are found.
    if (found := processes(pod, MODULE)) and draw.random() < 0.5:
        sigkill(found)
    else:
        bulk.stack.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
    return 1


def test_pods_that_are_killed_at_random_leave_what_an_undisturbed_run_does(bulk: Bulk, book: tuple[Path, Path]) -> None:
    seed = secrets.randbelow(1 << 30)
    draw, killed = random.Random(seed), 0
    say(f"   bulk scoring: seed {seed}")
    while killed < KILLS and bulk.output.state(SUMMARY) is None:
        killed += kill(bulk, draw)
        time.sleep(draw.uniform(0, 4))
    bulk.wait_until_done()
    assert killed >= KILLS // 2, f"seed {seed}: all was done after {killed} kills"
    assert_as_undisturbed(bulk, book[1])


def test_a_job_that_was_deleted_and_made_again_does_only_what_is_missing(bulk: Bulk, book: tuple[Path, Path]) -> None:
    wait_for("the first shards", partial(no_shard_done, bulk), timeout_seconds=300)
    (first,) = bulk.jobs()
    bulk.stack.kubectl("delete", "job", first["metadata"]["name"], "--wait=true")
    wait_for("no pod", lambda: f"{len(pods)} run" if (pods := bulk.pods()) else None, timeout_seconds=120)
    before = {info.path: info.mtime_ns for info in bulk.output.files("_bulk/done")}
    assert 0 < len(before) < ROWS // SHARD_ROWS
    source = bulk.output.url.removesuffix("out") + "in"
    bulk.start(source, run="2")
    bulk.wait_until_done()
    assert before.items() <= {info.path: info.mtime_ns for info in bulk.output.files("_bulk/done")}.items()
    assert_as_undisturbed(bulk, book[1])
