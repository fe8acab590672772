"""Serving, the operator and a training run while the registry's database is read-only, loses connections, and is down.

The faults are those of the shared stack: pytest runs this module after all scenarios.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from e2e.clients import Clients, failed
from e2e.registry_client import registry_client
from localcluster import training
from localcluster.console import say, wait_for
from localcluster.stack import RELEASE, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAME = f"e2e-faults-{int(time.time()):x}"
EPOCHS = 200
ARGUMENTS = [
    f"--model-name={NAME}", "--synthetic-rows=3000", "--hidden=16", "--bins=8", "--batch-rows=64", "--heads=5",
    f"--epochs={EPOCHS}", f"--patience={EPOCHS}", "--minimum-auc=0", "--maximum-ece=1", "--minimum-air=0",
]  # fmt: skip
RETRY = "was answered with 503, trying again"
PATIENCE_SECONDS = 300


@pytest.fixture
def promotion(stack: Stack) -> Iterator[Callable[[], dict[str, tuple[str, str]]]]:
    """The conditions of a ModelPromotion that follows the stack's pointer, and is at rest."""

    def conditions() -> dict[str, tuple[str, str]]:
        found = json.loads(stack.kubectl("get", f"modelpromotion/{RELEASE}", "--output=json"))
        return {item["type"]: (item["status"], item["reason"]) for item in found["status"]["conditions"]}

    stack.follow_alias()
    try:
        stack.kubectl("wait", "--for=condition=ArtifactsKept", f"modelpromotion/{RELEASE}", "--timeout=240s")
        stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=240s")
        yield conditions
    finally:
        stack.kubectl("delete", f"modelpromotion/{RELEASE}")
        stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=240s")


def test_a_database_in_trouble_fails_no_request_no_training_run_and_not_the_operator(
    stack: Stack,
    loans: list[dict[str, Any]],
    promotion: Callable[[], dict[str, tuple[str, str]]],
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    started = time.monotonic()
    with Clients(stack.url, stack.host, stack.api_key, loans, rate=10) as clients:
        job = training.start(stack, "synthetic", ARGUMENTS)
        logged = partial(not_logged, stack, job)
        wait_for("the first epochs", partial(logged, "epoch 3 of"), timeout_seconds=PATIENCE_SECONDS)
        with read_only(stack):
            cut_connections(stack)
            wait_for("a retry of the trainer", partial(logged, RETRY), timeout_seconds=PATIENCE_SECONDS)
            with registry_client(stack) as client:
                assert client.get_model_version_by_alias(RELEASE, "production")
        with database_down(stack):
            reported = partial(differs, promotion, "RegistryReachable", ("False", "Unreachable"))
            wait_for("the operator's report", reported, timeout_seconds=PATIENCE_SECONDS)
            assert promotion()["Ready"] == ("True", "Serving")
        cut_connections(stack)
        training.follow(stack, job)
        recovered = partial(differs, promotion, "RegistryReachable", ("True", "Reachable"))
        wait_for("the operator", recovered, timeout_seconds=PATIENCE_SECONDS)
        assert (promotion()["Degraded"][0], promotion()["Ready"][0]) == ("False", "True")
    assert len(clients.answers) > 100
    assert failed(clients.answers) == []
    with registry_client(stack) as client:
        (version,) = client.search_model_versions(f"name = '{NAME}'")
        assert client.get_run(str(version.run_id)).info.status == "FINISHED"
        epochs = client.get_metric_history(str(version.run_id), "validation_loss")
    assert len({metric.step for metric in epochs}) == EPOCHS
    pods = stack.kubectl("get", "pods", "-l", f"job-name={job}", "--output=name").split()
    assert len(pods) == 1, "the run was not started again"
    say(f"a training run through a read-only and a restarted database: {time.monotonic() - started:.0f} s")
    record_testsuite_property("training through a read-only and a restarted database, s", time.monotonic() - started)


@contextmanager
def read_only(stack: Stack) -> Iterator[None]:
    """Let the database accept no writes in new sessions for the length of the block."""
    sql(stack, 'ALTER DATABASE "{}" SET default_transaction_read_only = on')
    try:
        yield
    finally:
        # The session of this statement is read-only itself.
        sql(stack, 'SET default_transaction_read_only = off; ALTER DATABASE "{}" RESET default_transaction_read_only')


@contextmanager
def database_down(stack: Stack) -> Iterator[None]:
    """Let there be no database server for the length of the block."""
    stack.kubectl("scale", "statefulset/postgres", "--replicas=0")
    try:
        yield
    finally:
        stack.kubectl("scale", "statefulset/postgres", "--replicas=1")
        stack.kubectl("rollout", "status", "statefulset/postgres", f"--timeout={PATIENCE_SECONDS}s")


def cut_connections(stack: Stack) -> None:
    """End every session of the database."""
    sql(stack, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
               "WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip


def sql(stack: Stack, statements: str) -> None:
    """Run statements as a superuser, one by one; {} stands for the database's name."""
    name = stack.kubectl("exec", "postgres-0", "--", "sh", "-c", 'echo "$POSTGRES_DB"').strip()
    # Each on its own: psql would run all statements of one option as a single transaction.
    commands = [option for text in statements.split(";") for option in ("--command", text.strip().format(name))]
    run = 'exec psql --quiet --username "$POSTGRES_USER" "$POSTGRES_DB" "$@"'
    stack.kubectl("exec", "postgres-0", "--", "sh", "-c", run, "psql", *commands)


def not_logged(stack: Stack, job: str, text: str) -> str | None:
    """Return the end of a run's log if a text is not in it, else None."""
    pods = stack.kubectl("get", "pods", "-l", f"job-name={job}", "--output=jsonpath={.items[*].status.phase}")
    if pods in {"", "Pending"}:
        return f"its pod is {pods or 'missing'}"
    log = stack.kubectl("logs", f"job/{job}")
    return None if text in log else log[-1000:]


def differs(conditions: Callable[[], dict[str, tuple[str, str]]], kind: str, wanted: tuple[str, str]) -> str | None:
    """Return a condition if it is not the wanted one, else None."""
    found = conditions().get(kind)
    return None if found == wanted else f"{kind} is {found}"
