"""All that an MLflow client can see of a registry, to compare it before a loss and after a restore."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mlflow import MlflowClient


def described(client: MlflowClient) -> dict[str, Any]:
    """Return experiments, runs with their data, and models with their tags, aliases and versions."""
    experiments = client.search_experiments()
    models = client.search_registered_models()
    versions = client.search_model_versions()
    return {
        "experiments": {one.experiment_id: dict(one) for one in experiments},
        "runs": {
            run.info.run_id: run.to_dictionary()
            for run in client.search_runs([one.experiment_id for one in experiments])
        },
        "aliases": {
            one.name: {alias: str(version) for alias, version in client.get_registered_model(one.name).aliases.items()}
            for one in models
        },
        "model tags": {one.name: one.tags for one in models},
        "versions": {
            (one.name, str(one.version)): (one.source, one.run_id, one.current_stage, dict(one.tags))
            for one in versions
        },
    }


def matching_files(client: MlflowClient, folder: Path) -> dict[tuple[str, str, str], bool]:
    """Download each version's files through MLflow; return whether each has the digest in its tag.

    The keys are model, version and file name.
    """
    found = {}
    for version in client.search_model_versions():
        uri = client.get_model_version_download_uri(version.name, str(version.version))
        into = folder / f"{version.name}-{version.version}"
        into.mkdir(parents=True, exist_ok=True)
        for tag, digest in version.tags.items():
            if tag.startswith("sha256."):
                name = tag.removeprefix("sha256.")
                file = Path(_download(client, f"{uri}/{name}", into))
                same = hashlib.sha256(file.read_bytes()).hexdigest() == digest
                found[version.name, str(version.version), name] = same
    return found


def _download(client: MlflowClient, uri: str, into: Path) -> str:
    import mlflow.artifacts  # noqa: PLC0415 - takes a second

    return mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into), tracking_uri=client.tracking_uri)
