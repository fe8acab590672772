"""The decision log under faults: what was answered is in Postgres once, whatever fails meanwhile.

Each mode has all faults in turn, in a release of its own whose database lies on a small disk that can be filled.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.clients import Answer, Clients, failed
from e2e.decision_log import (
    SCORER_PORT,
    SHIPPER_PORT,
    Document,
    Sender,
    install,
    ready_pods,
    settle,
    sql,
    total,
    verify,
)
from e2e.pods import SCORER, processes, sigkill
from localcluster.cluster import Cluster
from localcluster.console import say, wait_for
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import Stack

# Half an hour for both modes.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAMESPACE = "decision-faults"
REPLICAS = 3
# Requests per second.
RATE = 20.0
KILLS = int(os.environ.get("CREDIT_RISK_DECISION_KILLS", "50"))
# Longer than it takes a connection to notice that its server has vanished.
FAULT_SECONDS = float(os.environ.get("CREDIT_RISK_DECISION_FAULT_SECONDS", "40"))
DISK_MEBIBYTES = 512
# In the mode log, decisions of the last .1 s before a kill may be lost; on a busy machine their group takes longer.
LOST_BEFORE_KILL_SECONDS = 2.0
SHIPPER = "decisions"
NOT_LOGGED, BATCHES_FAILED = "scorer_decisions_not_logged_total", "decisions_shipper_failures_total"


@dataclass(frozen=True)
class Disk:
    """A small disk in the node, on which the database of the release lies."""

    first_process: int
    path: str = f"/tmp/{NAMESPACE}"

    def create(self, stack: Stack) -> None:
        """Mount it, and offer it to the pod of the release's database."""
        size = f"size={DISK_MEBIBYTES}m,mode=0777"
        self._in_node("sh", "-c", f"mkdir -p {self.path} && mount -t tmpfs -o {size} {NAMESPACE} {self.path}")
        claim = {"namespace": NAMESPACE, "name": "data-postgres-0"}
        spec = {
            "capacity": {"storage": "8Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": NAMESPACE,
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": self.path}, "claimRef": claim,
        }  # fmt: skip
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": NAMESPACE}, "spec": spec}
        stack.kubectl("apply", "-f", "-", text=json.dumps(volume))

    def remove(self, stack: Stack) -> None:
        """Unmount it, once no pod uses it any more."""
        stack.kubectl("delete", "persistentvolume", NAMESPACE, "--ignore-not-found")
        unmount = f"if mountpoint -q {self.path}; then umount {self.path}; fi"
        self._in_node("sh", "-c", f"{unmount} && rm -rf {self.path}")

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Leave no room on it for the duration of the block."""
        # As the node sees it, whatever becomes of the database's processes.
        file = Path(f"/proc/{self.first_process}/root{self.path}/filler")
        chunk = bytes(1 << 20)
        try:
            with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(chunk)
            yield
        finally:
            file.unlink()

    def _in_node(self, *command: str) -> None:
        subprocess.run(["nsenter", f"--target={self.first_process}", "--mount", "--", *command], check=True)


@dataclass(frozen=True)
class Site:
    """A release with the decision log, and what can be done to it."""

    stack: Stack
    disk: Disk
    applications: Sequence[Document]

    @property
    def waits(self) -> bool:
        """Whether answers wait for their decisions: the mode require."""
        return self.stack.decision_log == "require"

    def clients(self) -> Clients:
        """Return clients that send requests at the steady rate."""
        return Clients(self.stack.url, self.stack.host, self.stack.api_key, self.applications, RATE)

    def wait_for_postgres(self) -> None:
        """Wait until the database answers."""
        self.stack.kubectl("rollout", "status", "statefulset/postgres", "--timeout=240s")

    def postgres_pod(self) -> Document:
        """Return the database's pod."""
        found: Document = json.loads(self.stack.kubectl("get", "pod", "postgres-0", "-o", "json"))
        return found

    # --- faults of the database

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Delete the database's pod and kill its processes; another pod starts by itself."""
        running = processes(self.postgres_pod(), "postgres")
        # Not with --force: two pods could then write to the same files for a moment.
        self.stack.kubectl("delete", "pod", "postgres-0", "--grace-period=1", "--wait=false")
        sigkill(running)
        yield
        self.wait_for_postgres()

    @contextmanager
    def partitioned(self) -> Iterator[None]:
        """Drop whatever is sent to the database over the network, on old connections, too."""
        inside = ["nsenter", f"--target={min(processes(self.postgres_pod(), 'postgres'))}", "--net", "--"]
        rule = ["INPUT", "!", "-i", "lo", "-p", "tcp", "--dport", "5432", "-j", "DROP"]
        subprocess.run([*inside, "iptables", "-w", "-I", *rule], check=True)
        try:
            yield
        finally:
            subprocess.run([*inside, "iptables", "-w", "-D", *rule], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room on the database's disk."""
        with self.disk.filled():
            yield
        self.wait_for_postgres()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let the database accept no writes."""
        sql(self.stack, "ALTER SYSTEM SET default_transaction_read_only = on;\nSELECT pg_reload_conf();")
        try:
            yield
        finally:
            sql(self.stack, "ALTER SYSTEM RESET default_transaction_read_only;\nSELECT pg_reload_conf();")


Fault = Callable[[Site], AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {
    "killed": Site.killed,
    "partitioned off": Site.partitioned,
    "on a full disk": Site.full,
    "read-only": Site.read_only,
}


@pytest.fixture(scope="module")
def disk(cluster: Cluster, stack: Stack) -> Iterator[Disk]:
    """The disk of the release's database; with the release, it is gone at the end."""
    if not isinstance(cluster, EmbeddedCluster) or (first := cluster.first_process()) is None:
        pytest.skip("the node of this cluster is a container, whose mounts and networks another program manages")
    found = Disk(first)
    delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"]
    stack.kubectl(*delete)
    found.remove(stack)
    try:
        found.create(stack)
        yield found
    finally:
        stack.kubectl(*delete)
        found.remove(stack)


@pytest.fixture(scope="module", params=["require", "log"])
def site(stack: Stack, disk: Disk, loans: list[Document], request: pytest.FixtureRequest) -> Site:
    """The release in one of the log's modes; it serves the shared stack's model."""
    release = Stack(stack.cluster, NAMESPACE, host=f"{NAMESPACE}.credit-risk.test", decision_log=request.param)
    install(
        release, stack, f"--set=api.replicas={REPLICAS}", f"--set=postgres.storage.storageClass={NAMESPACE}",
        # What is on the disk counts as the database's memory.
        "--set=postgres.resources.limits.memory=1Gi",
    )  # fmt: skip
    # Those of the other mode are gone.
    wait_for_pods(release, REPLICAS)
    return Site(release, disk, loans)


@pytest.mark.parametrize("name", FAULTS)
def test_no_decision_is_lost_though_postgres_is(site: Site, name: str, record_testsuite_property: Any) -> None:
    counted, batches = total(site.stack, NOT_LOGGED, SCORER_PORT), total(site.stack, BATCHES_FAILED, SHIPPER_PORT)
    with site.clients() as clients:
        clients.wait_for_answers()
        with FAULTS[name](site):
            time.sleep(FAULT_SECONDS)
        mended = time.time()
        clients.wait_for_answers()
    answers = clients.answers
    assert not failed(answers), f"scoring does not need Postgres: {failed(answers)[:3]}"
    lost = missing_after(site, answers, mended, f"Postgres {name}", record_testsuite_property)
    dropped = (total(site.stack, NOT_LOGGED, SCORER_PORT) - counted).total()
    failures = total(site.stack, BATCHES_FAILED, SHIPPER_PORT) - batches
    say(f"  counted as not logged: {dropped}; batches that failed: {dict(failures)}")
    assert failures, "the fault kept no shipper from its work"
    assert len(lost) <= (0 if site.waits else dropped), f"{len(lost)} are lost, {dropped} are counted: {lost[:3]}"
    verify(site.stack)


def test_killed_scoring_pods_lose_nothing_that_a_client_could_rely_on(
    site: Site, record_testsuite_property: Any
) -> None:
    with site.clients() as clients:
        clients.wait_for_answers()
        killed_at = [kill_one(site, with_shipper=number % 3 == 2) for number in range(KILLS)]
        wait_for_pods(site.stack, REPLICAS)
        last = time.time()
        clients.wait_for_answers()
    what = f"{KILLS} scoring pods killed"
    lost = missing_after(site, clients.answers, last, what, record_testsuite_property)
    unexplained = [answer for answer in lost if site.waits or not just_before_a_kill(answer, killed_at)]
    assert not unexplained, f"{len(unexplained)} of {len(lost)} lost decisions: {unexplained[:3]}"
    verify(site.stack)


def test_pods_that_get_the_same_request_id_log_each_answer(site: Site) -> None:
    wait_for_pods(site.stack, REPLICAS)
    request_id = f"same-{site.stack.decision_log}"
    sender, body = Sender(site.stack), json.dumps(site.applications[0]).encode()
    answers = [
        json.loads(sender.send("POST", "/v1/score", body, Content_Type="application/json", X_Request_Id=request_id))
        for _ in range(30)
    ]
    assert len({answer["served_by"] for answer in answers}) > 1
    ids = [answer["decision_id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert not settle(site.stack, ids, time.time()).missing
    logged = [decision["decision_id"] for decision in sender.decisions(request_id=request_id, limit=100)]
    assert sorted(logged) == sorted(ids)
    verify(site.stack)


def missing_after(site: Site, answers: Sequence[Answer], since: float, what: str, record: Any) -> list[Answer]:
    """Return the answers whose decisions are not in the database, and print the figures.

    Args:
        site: The release.
        answers: What the clients recorded.
        since: When all was well again, from when on it is counted how long the last decision took to arrive.
        what: The fault, for the figures.
        record: The fixture `record_testsuite_property`.
    """
    answered = {answer.decision_id: answer for answer in answers if answer.status == 200}
    assert len(answered) > RATE
    assert "" not in answered, "an answer has no decision id"
    settled = settle(site.stack, answered.keys(), since)
    figures = {
        "answered": len(answered), "not answered": len(failed(answers)), "found": len(answered) - len(settled.missing),
        "lost": len(settled.missing), "seconds to catch up": round(settled.seconds, 1),
    }  # fmt: skip
    title = f"{site.stack.decision_log}, {what}"
    say(f"{title}: {', '.join(f'{name} {value}' for name, value in figures.items())}")
    record(title, figures)
    return [answered[id_] for id_ in settled.missing]


def just_before_a_kill(answer: Answer, killed: Sequence[tuple[float, str]]) -> bool:
    """Return whether an answer came from a pod that was killed at about that time."""
    return any(pod == answer.pod and abs(at - answer.done) <= LOST_BEFORE_KILL_SECONDS for at, pod in killed)


def kill_one(site: Site, *, with_shipper: bool) -> tuple[float, str]:
    """Kill the service of the pod that was killed least, while another one answers; return when, and the pod's name."""
    wait_for_pods(site.stack, REPLICAS - 1)
    pod = min(ready_pods(site.stack), key=restarts)
    name, before = pod["metadata"]["name"], restarts(pod)
    found = processes(pod, SCORER) + (processes(pod, SHIPPER) if with_shipper else [])
    killed = time.time()
    sigkill(found)
    # The kubelet waits ever longer before it starts such a container again. The shipper must live to ship the rest:
    # nobody else can read an emptyDir.
    if before and not with_shipper:
        site.stack.kubectl("delete", "pod", name, "--wait=false")

    def unnoticed() -> str | None:
        # Until the kubelet has noticed, it counts as ready.
        same = [pod for pod in ready_pods(site.stack) if pod["metadata"]["name"] == name and restarts(pod) == before]
        return "it is as before" if same else None

    wait_for(f"the end of {name}", unnoticed, timeout_seconds=60)
    return killed, name


def wait_for_pods(stack: Stack, at_least: int) -> None:
    """Wait until so many scoring pods are ready."""

    def problem() -> str | None:
        ready = len(ready_pods(stack))
        return None if ready >= at_least else f"{ready} are ready"

    wait_for(f"{at_least} scoring pods", problem, timeout_seconds=240)


def restarts(pod: Document) -> int:
    """Return how often containers of a pod were started again."""
    return sum(status["restartCount"] for status in pod["status"]["containerStatuses"])
