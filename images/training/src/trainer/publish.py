"""Everything that is said to MLflow: the run, the registered version, and its promotion."""

from __future__ import annotations

import logging
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trainer.evaluation import Metrics
from trainer.export import sha256_of

log = logging.getLogger(__name__)

ALIAS = "production"
PREVIOUS_ALIAS = "previous"
STAGE = "Production"
FILES = ("model.onnx", "contract.json")
WAIT_SECONDS = 300.0


class TrackingUnavailableError(RuntimeError):
    """The MLflow server did not answer in time."""


def wait_for_server(url: str) -> None:
    """Wait until an MLflow server over HTTP answers; a local store needs no waiting.

    Raises:
        TrackingUnavailableError: when it did not within five minutes.
    """
    if not url.startswith("http"):
        return
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - http, as checked above
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise TrackingUnavailableError(
                    f"MLflow at {url} did not answer in {WAIT_SECONDS:.0f} s: {error}"
                ) from error
            log.info("waiting for MLflow at %s: %s", url, error)
            time.sleep(2)


def register(client: MlflowClient, name: str, run_id: str, folder: Path, tags: dict[str, str], metrics: Metrics) -> str:
    """Upload the model's folder to the run and register it; return the new version's number.

    The version's tags carry the SHA-256 of each contract file, so that a service can check what it fetched.
    """
    client.log_artifacts(run_id, str(folder), "model")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    all_tags = {
        **{f"sha256.{file}": sha256_of(folder / file) for file in FILES},
        **{f"metric.{key}": f"{value:.6f}" for key, value in vars(metrics).items()},
        **tags,
    }
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(name, source, run_id, tags=all_tags)
    return str(version.version)


def promote(client: MlflowClient, name: str, version: str) -> None:
    """Make a version Production, by alias and by stage; the one before keeps the alias `previous`.

    The alias moves in one step and the old stage is left only after the new one was entered: at no moment is there no
    Production version.
    """
    try:
        before = str(client.get_model_version_by_alias(name, ALIAS).version)
    except MlflowException:
        before = None
    if before not in {None, version}:
        client.set_registered_model_alias(name, PREVIOUS_ALIAS, before)
    client.set_registered_model_alias(name, ALIAS, version)
    with warnings.catch_warnings():
        # Stages are deprecated, yet what many registries are still read by.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(name, version, STAGE, archive_existing_versions=True)
