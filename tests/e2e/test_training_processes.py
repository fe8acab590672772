"""Two pods train one network together; one of them is lost on the way, and the version is registered once."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from e2e.registry_client import registry_client
from localcluster import training
from localcluster.console import wait_for
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
# A model of its own, also on a stack that an earlier run has kept.
NAME = f"e2e-processes-{int(time.time()):x}"
PODS, EPOCHS = 2, 60
ARGUMENTS = [f"--model-name={NAME}", "--synthetic-rows=20000", "--heads=5", f"--epochs={EPOCHS}"]
ARGUMENTS += [f"--patience={EPOCHS}", "--production-pointer=never", "--minimum-air=0"]
# The first Kubernetes with Indexed Jobs by default.
INDEXED = (1, 22)


def documents_of(stack: Stack) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Return Jobs, what they need, and the name that their pods begin with.

    It is one Indexed Job, or on older clusters one Job per index, as the controller would make pods.
    """
    server = json.loads(stack.kubectl("version", "--output=json"))["serverVersion"]
    known = (int(server["major"]), int(server["minor"].rstrip("+"))) >= INDEXED
    version = server["gitVersion"] if known else "v1.22.0"
    documents = training.render(stack, {"data": "synthetic", "pods": PODS}, ARGUMENTS, version)
    job, service, policy = (documents[kind] for kind in ("Job", "Service", "NetworkPolicy"))
    name = str(job["metadata"]["name"])
    # The release's own policy lets nobody in. Policies add up.
    policy["metadata"]["name"] = name
    return [job] if known else [_of_index(job, index) for index in range(PODS)], [service, policy], name


def _of_index(job: dict[str, Any], index: int) -> dict[str, Any]:
    single, name = copy.deepcopy(job), job["metadata"]["name"]
    single["metadata"]["name"] = f"{name}-{index}"
    for key in ("completionMode", "completions", "parallelism"):
        del single["spec"][key]
    pod = single["spec"]["template"]["spec"]
    pod["hostname"] = f"{name}-{index}"
    (container,) = pod["containers"]
    own = {
        "JOB_COMPLETION_INDEX": str(index),
        "TRAINER_RENDEZVOUS": f"{name}-0.{pod['subdomain']}:29400",
    }
    container["env"] = [entry for entry in container["env"] if entry["name"] not in own]
    container["env"] += [{"name": key, "value": value} for key, value in own.items()]
    return single


@pytest.fixture
def started(stack: Stack) -> Iterator[tuple[list[str], str]]:
    """The names of the running Jobs, and the one that their pods begin with."""
    jobs, others, name = documents_of(stack)
    for document in (*others, *jobs):
        stack.create(document)
    yield [job["metadata"]["name"] for job in jobs], name
    for document in (*jobs, *others):
        stack.kubectl("delete", document["kind"], document["metadata"]["name"], "--ignore-not-found")


def pods_of(stack: Stack, prefix: str) -> list[str]:
    """Return the pods whose names begin so, oldest first."""
    listed = stack.kubectl("get", "pods", "--output=name", "--sort-by=.metadata.creationTimestamp")
    names = [line.removeprefix("pod/") for line in listed.split()]
    return [name for name in names if name.startswith(prefix)]


def _not_in_mid_training(stack: Stack, prefix: str) -> str | None:
    """Return why the first pod does not train yet, None if it does."""
    pods = pods_of(stack, prefix)
    running = pods and stack.kubectl("get", "pod", pods[-1], "--output=jsonpath={.status.phase}") == "Running"
    return None if running and ": epoch 3 of" in stack.kubectl("logs", pods[-1]) else "it has not trained three epochs"


def test_two_pods_train_one_network_and_go_on_when_one_is_lost(
    stack: Stack, started: tuple[list[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    jobs, name = started
    wait_for("the training", partial(_not_in_mid_training, stack, f"{name}-0-"), timeout_seconds=600)
    (second,) = pods_of(stack, f"{name}-1-")
    stack.kubectl("delete", "pod", second, "--grace-period=0", "--force")
    for job in jobs:
        training.follow(stack, job)
    assert "resuming after epoch" in capfd.readouterr().out
    # The pod that was lost was replaced, and the first one went on.
    assert second not in pods_of(stack, f"{name}-1-")
    assert len(pods_of(stack, f"{name}-0-")) == 1
    with registry_client(stack) as client:
        (experiment,) = client.search_experiments(filter_string=f"name = '{NAME}'")
        (run,) = client.search_runs([experiment.experiment_id])
        (version,) = client.search_model_versions(f"name = '{NAME}'")
    assert run.info.status == "FINISHED"
    assert run.data.tags["processes"] == str(PODS)
    assert version.run_id == run.info.run_id
    assert version.tags["gate.verdict"] == "passed"
