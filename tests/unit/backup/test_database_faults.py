"""MLflow, and a training run in progress, while the database accepts no writes, cuts connections, or is down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conftest import REPOSITORY
from localcluster.console import wait_for
from postgres import Postgres
from unit.backup.services import Site

NAME = "credit-risk"
RETRY = "was answered with 503, trying again"
TRAINING = [
    f"--model-name={NAME}", "--data=synthetic", "--synthetic-rows=3000", "--hidden=16", "--bins=8", "--batch-rows=64",
    "--heads=5", "--epochs=40", "--patience=40", "--minimum-auc=0", "--maximum-ece=1", "--minimum-air=0",
]  # fmt: skip


@pytest.fixture
def client(site: Site, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client that does not retry, of a registry with one registered model."""
    site.client.create_registered_model(NAME)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return site.client


@contextmanager
def read_only(postgres: Postgres) -> Iterator[None]:
    """Let the database accept no writes for the length of the block, which begins with the end of all connections."""
    postgres.refuse_writes(cut=True)
    try:
        yield
    finally:
        postgres.accept_writes()


@contextmanager
def down(postgres: Postgres) -> Iterator[None]:
    """Stop the database for the length of the block."""
    postgres.stop()
    try:
        yield
    finally:
        postgres.start()


def write(client: MlflowClient) -> str | None:
    """Write a tag, and return None or why that is not possible for the moment."""
    try:
        client.set_registered_model_tag(NAME, "owner", "risk")
    except MlflowException as error:
        # MLflow's clients retry a 503, and the operator waits. Other codes would end a training run.
        if "too many 503 error responses" not in error.message:
            raise
        return error.message
    return None


def test_a_database_that_accepts_no_writes_is_read_and_written_again_at_once(
    client: MlflowClient, postgres: Postgres
) -> None:
    assert write(client) is None
    with read_only(postgres):
        wait_for("the refusal", lambda: None if write(client) else "a write was accepted", timeout_seconds=30)
        assert client.get_registered_model(NAME).tags == {"owner": "risk"}
        # So do connections that are made while it lasts.
        postgres.cut_connections()
        assert write(client)
        assert client.get_registered_model(NAME).tags == {"owner": "risk"}
    wait_for("a write", partial(write, client), timeout_seconds=30)


def test_connections_that_were_cut_fail_no_later_request(client: MlflowClient, postgres: Postgres) -> None:
    for _ in range(3):
        assert write(client) is None
        postgres.cut_connections()
        assert client.get_registered_model(NAME).name == NAME


def test_a_database_that_is_down_is_used_again_at_once(client: MlflowClient, postgres: Postgres) -> None:
    with down(postgres):
        assert write(client)
        with pytest.raises(MlflowException, match="503"):
            client.get_registered_model(NAME)
    assert write(client) is None


@pytest.mark.soak
def test_a_training_run_waits_for_the_database_and_registers_its_model(
    site: Site, postgres: Postgres, tmp_path: Path
) -> None:
    log = tmp_path / "trainer.log"
    environment = {
        **os.environ, "PYTHONPATH": str(REPOSITORY / "images/training/src"), "TRAINER_WORK_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": str(site.client.tracking_uri),
        # Shorter pauses between retries than the two seconds that are MLflow's default.
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }  # fmt: skip
    with log.open("wb") as out:
        trainer = subprocess.Popen(
            [sys.executable, "-m", "trainer", *TRAINING], env=environment, stdout=out, stderr=out, cwd=tmp_path
        )
    try:
        wait_for("the first epochs", partial(missing, log, "epoch 2 of"), timeout_seconds=180)
        for fault in (read_only, down):
            seen = log.read_text().count(RETRY)
            with fault(postgres):
                wait_for("a retry", partial(missing, log, RETRY, seen + 1), timeout_seconds=180)
        assert trainer.wait(timeout=300) == 0, log.read_text()
    finally:
        trainer.kill()
        trainer.wait()
    (version,) = site.client.search_model_versions(f"name = '{NAME}'")
    run = site.client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    epochs = [metric.step for metric in site.client.get_metric_history(run.info.run_id, "validation_loss")]
    assert len(set(epochs)) == 40


def missing(log: Path, text: str, times: int = 1) -> str | None:
    """Return the end of a log that does not have a text as often yet, else None."""
    content = log.read_text()
    return None if content.count(text) >= times else content[-2000:]
