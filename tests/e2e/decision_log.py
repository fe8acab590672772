"""A release with the decision log: asking it, and comparing what was answered with what is in its database."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from e2e import model_versions as versions
from e2e.environment import Environment
from e2e.namespace import ScenarioNamespace
from e2e.pods import STABLE, is_ready
from localcluster.console import wait_for
from localcluster.port_forward import PortForward
from localcluster.stack import Stack

Document = dict[str, Any]
SCORER_PORT, SHIPPER_PORT = 9090, 9091
JOB_SECONDS = 300
# A shipper that failed waits up to 30 s, and what was handed over is looked for every minute.
PATIENCE_SECONDS = 90.0
# Read-only transactions are one of the faults, and must not keep a test from looking or from mending it.
_PSQL = (
    'PGOPTIONS="-c default_transaction_read_only=off" '
    'exec psql --username "$POSTGRES_USER" --dbname decisions --quiet --no-align --tuples-only --set ON_ERROR_STOP=1'
)


@dataclass(frozen=True)
class Sender:
    """Sends requests to a release through the ingress."""

    stack: Stack

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """Return the body of an answer; headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": self.stack.host}
        request = urllib.request.Request(self.stack.url + path, body, named, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def score(self, path: str, body: bytes, content_type: str) -> str:
        """Send what is to be scored and return the request's id."""
        request_id = f"e2e-{secrets.token_hex(8)}"
        self.send("POST", path, body, Content_Type=content_type, X_Request_Id=request_id)
        return request_id

    def decisions(self, **query: str | int) -> list[Document]:
        """Return the decisions that the service lists."""
        key = f"Bearer {self.stack.decisions_key}"
        answer = json.loads(self.send("GET", f"/v1/decisions?{urlencode(query)}", Authorization=key))
        found: list[Document] = answer["decisions"]
        return found


@dataclass(frozen=True)
class Settled:
    """What became of answered decisions: which are missing, and how long the last one took to arrive, in seconds."""

    missing: frozenset[str]
    seconds: float


def install(stack: Stack, model_from: Stack, *values: str) -> None:
    """Install or upgrade a release with the decision log that serves another release's model, and wait for it."""
    others = [f"--set={part}.enabled=false" for part in ("operator", "backup")]
    # The MLflow of this release only makes the charts complete.
    stack.install(
        stack.images(),
        [*others, f"--set=api.mlflowUrl=http://mlflow.{model_from.namespace}:5000",
         "--set=api.resources.requests.cpu=20m", *values],
        train=False,
    )  # fmt: skip
    stack.wait_for_decisions()
    stack.wait_for_scoring()


@contextmanager
def promoting_release(environment: Environment, name: str) -> Iterator[tuple[ScenarioNamespace, Stack]]:
    """A namespace for a release with the decision log and an operator of its own, on the shared stack's registry.

    Its champion is registered; the release is to be installed with `install_promoting`.
    """
    namespace = ScenarioNamespace(environment, name, own_operator=True)
    release = Stack(environment.stack.cluster, name, host=namespace.host, decision_log="log")
    delete = ["delete", "namespace", name, "--ignore-not-found"]
    release.kubectl(*delete)
    try:
        environment.registry.create_registered_model(namespace.model)
        namespace.champion = namespace.register(versions.good)
        namespace.move_pointer(namespace.champion)
        yield namespace, release
    finally:
        release.kubectl(*delete, "--wait=false")


def install_promoting(namespace: ScenarioNamespace, release: Stack, *values: str) -> None:
    """Install or upgrade such a release, and wait for it and its operator."""
    shared = namespace.environment.stack
    install(
        release, shared, f"--set=api.model.name={namespace.model}", "--set=operator.enabled=true",
        "--set=operator.crd.install=false", "--set=operator.pollSeconds=1",
        f"--set=operator.mlflowUrl=http://mlflow.{shared.namespace}:5000", *values,
    )  # fmt: skip
    namespace.wait_for_rollouts("operator")


def run_job(stack: Stack, cron_job: str, *arguments: str) -> str:
    """Run a Job of a CronJob's template with other arguments, and return the last line that it wrote.

    Raises:
        AssertionError: It failed.
    """
    name = f"{arguments[0]}-{secrets.token_hex(4)}"
    spec = json.loads(stack.kubectl("get", "cronjob", cron_job, "-o", "json"))["spec"]["jobTemplate"]["spec"]
    spec["template"]["spec"]["containers"][0]["args"] = arguments
    spec["backoffLimit"] = 0
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
    stack.kubectl("apply", "-f", "-", text=json.dumps(manifest))

    def running() -> str | None:
        return None if {"succeeded", "failed"} & status(stack, name).keys() else "it is running"

    wait_for(f"job/{name}", running, timeout_seconds=JOB_SECONDS)
    log = stack.kubectl("logs", f"job/{name}")
    assert status(stack, name).get("succeeded"), log
    return log.splitlines()[-1]


def status(stack: Stack, job: str) -> Document:
    """Return the status of a Job."""
    found: Document = json.loads(stack.kubectl("get", "job", job, "-o", "json")).get("status", {})
    return found


def verify(stack: Stack) -> Document:
    """Run `decisions verify` in the cluster, which fails if there is a difference, and return its result."""
    found: Document = json.loads(run_job(stack, "decisions-verify", "verify", "--json"))
    return found


def sql(stack: Stack, statement: str) -> list[str]:
    """Run statements as the superuser inside the database's pod, and return the lines of the answer."""
    return stack.kubectl("exec", "-i", "postgres-0", "--", "sh", "-c", _PSQL, text=statement).split()


def settle(stack: Stack, answered: Collection[str], since: float) -> Settled:
    """Wait until each answered decision is in the database, or until none has arrived for a long time.

    Args:
        stack: The release.
        answered: The ids of answered decisions.
        since: From when on the time is counted, in seconds since 1970.
    """
    missing, arrived = frozenset(answered), time.time()
    while True:
        found = sql(stack, f"SELECT id FROM decisions WHERE id >= '{min(answered)}'")
        twice = [id_ for id_, count in Counter(found).items() if count > 1]
        assert not twice, f"{len(twice)} decisions are in the table more than once, such as {twice[:3]}"
        left = missing - set(found)
        if len(left) < len(missing):
            missing, arrived = left, time.time()
        if not missing or time.time() - arrived > PATIENCE_SECONDS:
            return Settled(missing, max(0.0, arrived - since))
        time.sleep(1)


def total(stack: Stack, metric: str, port: int) -> Counter[str]:
    """Return a counter of all scoring pods that are ready, summed by its label `cause`."""
    result = Counter[str]()
    for pod in ready_pods(stack):
        with (
            PortForward(stack.kubectl_command(), f"pod/{pod['metadata']['name']}", port, stack.environment()) as url,
            urllib.request.urlopen(f"{url}/metrics", timeout=20) as response,
        ):
            text = response.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == metric:
                    result[sample.labels["cause"]] += int(sample.value)
    return result


def ready_pods(stack: Stack) -> Sequence[Document]:
    """Return the scoring pods that get requests and are not being deleted."""
    found: list[Document] = json.loads(stack.kubectl("get", "pods", "-l", STABLE, "-o", "json"))["items"]
    return [pod for pod in found if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]
