"""A hyper-parameter search by parallel pods that share one study in the stack's Postgres."""

from __future__ import annotations

import copy
import json
import time
from functools import partial
from typing import Any

import pytest

from e2e.registry_client import registry_client
from localcluster import training
from localcluster.console import ClusterError, wait_for
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
# A study of its own, also on a stack that an earlier run has kept.
NAME = f"e2e-search-{int(time.time()):x}"
TRIALS, WORKERS = 6, 2
ARGUMENTS = [f"--model-name={NAME}", "--synthetic-rows=8000", "--heads=3", "--epochs=4"]
ARGUMENTS += ["--production-pointer=never", "--minimum-auc=0", "--maximum-ece=1", "--minimum-air=0"]
# The first Kubernetes with Indexed Jobs by default.
INDEXED = (1, 22)


def jobs_of(stack: Stack) -> list[dict[str, Any]]:
    """Return the search's Indexed Job, or on older clusters one Job per index, as the controller would make pods."""
    server = json.loads(stack.kubectl("version", "--output=json"))["serverVersion"]
    known = (int(server["major"]), int(server["minor"].rstrip("+"))) >= INDEXED
    values = {"data": "synthetic", "search": {"trials": TRIALS, "workers": WORKERS}}
    version = server["gitVersion"] if known else "v1.22.0"
    job = training.render(stack, values, ARGUMENTS, version)["Job"]
    assert (job["spec"]["completionMode"], job["spec"]["parallelism"]) == ("Indexed", WORKERS)
    return [job] if known else [_of_index(job, index) for index in range(WORKERS)]


def _of_index(job: dict[str, Any], index: int) -> dict[str, Any]:
    single = copy.deepcopy(job)
    single["metadata"]["name"] += f"-{index}"
    for name in ("completionMode", "completions", "parallelism"):
        del single["spec"][name]
    (container,) = single["spec"]["template"]["spec"]["containers"]
    container["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
    return single


def _not_waiting(stack: Stack, job: str) -> str | None:
    """Return why a worker does not wait for worker 0 yet, None if it does."""
    try:
        log = stack.kubectl("logs", f"job/{job}")
    except ClusterError as error:
        return str(error)
    return None if "waiting for worker 0" in log else "its log does not say that it waits for worker 0"


def test_parallel_pods_share_a_study_and_one_of_them_trains_with_its_best_parameters(stack: Stack) -> None:
    jobs = jobs_of(stack)
    # The workers begin together if they are there within two minutes of each other. The controller of an Indexed Job
    # creates its pods together.
    for job in reversed(jobs):
        stack.create(job)
        if job is not jobs[0]:
            wait_for("a worker", partial(_not_waiting, stack, job["metadata"]["name"]), timeout_seconds=600)
    for job in jobs:
        training.follow(stack, job["metadata"]["name"])
    with registry_client(stack) as client:
        (experiment,) = client.search_experiments(filter_string=f"name = '{NAME}'")
        runs = client.search_runs([experiment.experiment_id])
        finals = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        trials = [run for run in runs if run not in finals]
        (version,) = client.search_model_versions(f"name = '{NAME}'")
    (final,) = finals
    assert final.info.status == "FINISHED"
    assert version.run_id == final.info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {final.info.run_id}
    # A worker in mid-trial may finish it when the other one has completed the last.
    assert TRIALS <= len(trials) < TRIALS + WORKERS
    assert {run.data.tags["worker"] for run in trials} == {"0", "1"}
    complete = [run for run in trials if "out_of_fold_log_loss" in run.data.metrics]
    best = min(complete, key=lambda run: run.data.metrics["out_of_fold_log_loss"])
    assert [final.data.params[name] for name in ("hidden", "learning_rate")] == [
        best.data.params[name] for name in ("hidden", "learning_rate")
    ]
