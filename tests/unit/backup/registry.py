"""Runs and versions as training makes them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient

from unit.backup.services import Site


def train(client: MlflowClient, model: str, content: bytes | None = None) -> str:
    """Log a run with its files, then register them as a version, as training does; return the version."""
    experiment = client.get_experiment_by_name("loans")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("loans")
    run = client.create_run(experiment_id, tags={"data.sha256": "abc"}).info
    client.log_metric(run.run_id, "auc", 0.8 + os.urandom(1)[0] / 1000, step=1)
    client.log_param(run.run_id, "epochs", "12")
    files = {"model.onnx": content or os.urandom(2_000), "contract.json": b'{"format_version": 2}'}
    with TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        client.log_artifacts(run.run_id, folder, "model")
    tags = {f"sha256.{name}": hashlib.sha256(data).hexdigest() for name, data in files.items()}
    version = client.create_model_version(
        model, f"{run.artifact_uri}/model", run.run_id, tags={**tags, "gate.verdict": "passed"}
    )
    client.set_terminated(run.run_id)
    return str(version.version)


def publish(site: Site, model: str, versions: int = 3) -> None:
    """Register a model with some versions, aliases and tags."""
    site.client.create_registered_model(model, tags={"owner": "risk"})
    for _ in range(versions):
        newest = train(site.client, model)
        site.client.set_registered_model_alias(model, "production", newest)
    site.client.set_registered_model_alias(model, "previous", "1")
    site.client.transition_model_version_stage(model, newest, "Production")
    site.client.set_model_version_tag(model, "1", "promoted", "2026-11-28")
