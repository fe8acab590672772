"""Runs and versions as training makes them, and everything that an MLflow client can see of a registry."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient

from unit.backup.services import Site

ALL = ["None", "Staging", "Production", "Archived"]


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


def described(client: MlflowClient) -> dict[str, Any]:
    """Everything a client can ask for: experiments, runs with their data, models, aliases, versions, tags."""
    experiments = client.search_experiments()
    models = client.search_registered_models()
    versions = client.search_model_versions()
    return {
        "experiments": {one.experiment_id: dict(one) for one in experiments},
        "runs": {
            run.info.run_id: run.to_dictionary()
            for run in client.search_runs([one.experiment_id for one in experiments])
        },
        "aliases": {one.name: client.get_registered_model(one.name).aliases for one in models},
        "model tags": {one.name: one.tags for one in models},
        "versions": {
            (one.name, one.version): (one.source, one.run_id, one.current_stage, dict(one.tags)) for one in versions
        },
    }


def downloads(client: MlflowClient, folder: Path) -> dict[tuple[str, str, str], bool]:
    """Download each version's files through MLflow; tell of each whether it matches its tag."""
    found = {}
    for version in client.search_model_versions():
        for tag, digest in version.tags.items():
            if tag.startswith("sha256."):
                name = tag.removeprefix("sha256.")
                into = folder / f"{version.name}-{version.version}"
                into.mkdir(parents=True, exist_ok=True)
                file = Path(client.download_artifacts(str(version.run_id), f"model/{name}", str(into)))
                found[version.name, str(version.version), name] = (
                    hashlib.sha256(file.read_bytes()).hexdigest() == digest
                )
    return found
