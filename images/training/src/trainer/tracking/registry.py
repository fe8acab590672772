"""MLflow's registry as the trainer uses it: versions, the Production pointer, and a version's files."""

import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import mlflow
import urllib3
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from trainer.errors import TrackingError
from trainer.export.contract import CONTRACT_FILE, MODEL_FILE, Contract, sha256_of

logger = logging.getLogger(__name__)

PRODUCTION_ALIAS = "production"
PREVIOUS_ALIAS = "previous"
CANDIDATE_ALIAS = "candidate"
PRODUCTION_STAGE = "Production"
_NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}
_WAIT_STEP_SECONDS = 2.0


@dataclass(frozen=True)
class Champion:
    """The Production version with its files on disk."""

    version: str
    folder: Path
    contract: Contract


def wait_for_server(uri: str, *, timeout_seconds: float) -> None:
    """Wait until the tracking server answers; a store that is no server needs no waiting.

    Raises:
        TrackingError: It did not answer in time.
    """
    if not uri.startswith(("http://", "https://")):
        return
    pool = urllib3.PoolManager(retries=False, timeout=5.0)
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            status = pool.request("GET", f"{uri.rstrip('/')}/health").status
            problem = f"it answered {status}"
            if status == 200:
                return
        except urllib3.exceptions.HTTPError as error:
            problem = str(error)
        if time.monotonic() >= deadline:
            raise TrackingError(f"MLflow at {uri} was not ready within {timeout_seconds:.0f} s: {problem}")
        logger.info("waiting for MLflow at %s: %s", uri, problem)
        time.sleep(_WAIT_STEP_SECONDS)


class Registry:
    """One registered model."""

    def __init__(self, client: MlflowClient, model_name: str) -> None:
        self._client = client
        self._model_name = model_name

    def production_version(self) -> str | None:
        """The version that the alias names, else the newest one in the stage, else None."""
        try:
            return str(self._client.get_model_version_by_alias(self._model_name, PRODUCTION_ALIAS).version)
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
        try:
            with _quiet_about_stages():
                staged = self._client.get_latest_versions(self._model_name, stages=[PRODUCTION_STAGE])
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
            return None
        return str(staged[0].version) if staged else None

    def fetch(self, version: str, folder: Path) -> Champion:
        """Download a version's contract files and check them against its tags.

        Raises:
            TrackingError: Files are missing, differ from their digests, or cannot be understood.
        """
        tags = self._client.get_model_version(self._model_name, version).tags
        source = self._client.get_model_version_download_uri(self._model_name, version)
        for name in (MODEL_FILE, CONTRACT_FILE):
            try:
                path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{source}/{name}", dst_path=str(folder)))
            except (MlflowException, OSError) as error:
                raise TrackingError(f"version {version}: {name} cannot be had: {error}") from error
            if sha256_of(path) != tags.get(f"sha256.{name}"):
                raise TrackingError(f"version {version}: {name} differs from the digest in its tags")
        try:
            contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
        except ValidationError as error:
            raise TrackingError(f"version {version}: contract.json: {error}") from error
        return Champion(version, folder, contract)

    def version_of_run(self, run_id: str) -> str | None:
        """The version that an earlier attempt of the same run registered, if any."""
        found = self._client.search_model_versions(f"run_id = '{run_id}' and name = '{self._model_name}'")
        return str(found[0].version) if found else None

    def register(self, *, model_uri: str, run_id: str, tags: dict[str, str], description: str) -> str:
        """Register a logged model with its tags; an attempt that is repeated finds the first one's version."""
        existing = self.version_of_run(run_id)
        if existing is not None:
            return existing
        try:
            self._client.create_registered_model(self._model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = mlflow.register_model(model_uri, self._model_name, tags=tags, await_registration_for=60)
        self._client.update_model_version(self._model_name, str(version.version), description)
        return str(version.version)

    def set_candidate(self, version: str) -> None:
        """Point the alias for versions that a person shall look at."""
        self._point(CANDIDATE_ALIAS, version)

    def set_tag(self, version: str, key: str, value: str) -> None:
        """Tag a version."""
        self._client.set_model_version_tag(self._model_name, version, key, value)

    def promote(self, version: str, *, replacing: str | None) -> None:
        """Make `version` the Production one.

        The new version enters the stage before others leave it, and the alias moves in one step between: a reader
        finds a Production version at every moment. Each step can be repeated.
        """
        # Looked up before this version enters the stage: of two trainings that promote at the same moment, at most one
        # can find the other's version here.
        staged = self._in_stage(PRODUCTION_STAGE)
        with _quiet_about_stages():
            self._client.transition_model_version_stage(
                self._model_name, version, PRODUCTION_STAGE, archive_existing_versions=False
            )
            if replacing is not None and replacing != version:
                self._point(PREVIOUS_ALIAS, replacing)
            self._point(PRODUCTION_ALIAS, version)
            for other in staged:
                if other != version:
                    self._client.transition_model_version_stage(self._model_name, other, "Archived")

    def _point(self, alias: str, version: str) -> None:
        try:
            self._client.set_registered_model_alias(self._model_name, alias, version)
        except MlflowException:
            # Two trainings that make an alias at the same moment collide in the registry's database, and one of them is
            # refused; now the alias is there to be moved.
            self._client.set_registered_model_alias(self._model_name, alias, version)

    def _in_stage(self, stage: str) -> list[str]:
        versions = self._client.search_model_versions(f"name = '{self._model_name}'")
        return [str(version.version) for version in versions if version.current_stage == stage]


def _quiet_about_stages() -> warnings.catch_warnings:
    """Stages are deprecated, yet they are what many registries are still read by."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)
