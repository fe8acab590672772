"""How training runs ended, as the operator reads it from a real MLflow server."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from mlflow import MlflowClient

from mlflow_server import mlflow_server
from promoter.adapters.mlflow import MlflowRegistry

COMMIT = {"git.revision": "abc"}


async def test_the_newest_run_of_each_status_counts_and_trials_do_not(tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as url:
        client = MlflowClient(url)
        experiment = client.create_experiment("credit-risk")

        def run(status: str, end: int, tags: dict[str, str]) -> None:
            made = client.create_run(experiment, start_time=end - 500, tags=tags)
            client.set_terminated(made.info.run_id, status, end)

        run("FINISHED", 1000, COMMIT)
        run("FINISHED", 3000, COMMIT)
        run("FAILED", 2000, COMMIT)
        run("FAILED", 5000, COMMIT | {"refused": "roc_auc 0.6 is below 0.7"})
        run("KILLED", 6000, COMMIT)
        run("FAILED", 9000, {"mlflow.parentRunId": "x"})
        client.create_run(experiment, start_time=7000, tags=COMMIT)
        async with aiohttp.ClientSession() as session:
            registry = MlflowRegistry(session, url)
            assert await registry.last_runs("credit-risk") == {
                "finished": 3.0, "failed": 2.0, "refused": 5.0, "running": 7.0
            }  # fmt: skip
            assert set((await registry.last_runs("another")).values()) == {0.0}
