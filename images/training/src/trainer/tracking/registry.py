"""The trainer's view of MLflow's registry: versions, their files, and the Production pointer."""

import logging
import math
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
from trainer.tracking.texts import LONGEST_DESCRIPTION, shortened

logger = logging.getLogger(__name__)

PRODUCTION_ALIAS = "production"
PREVIOUS_ALIAS = "previous"
CANDIDATE_ALIAS = "candidate"
PRODUCTION_STAGE = "Production"
# On the registered model: which version the pointer was moved to, and by whom. The operator reads it.
POINTER_TAG = "creditrisk.io.pointer"
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}
# Between two attempts to reach a server that is starting, and for each of them.
_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class Champion:
    """The Production version and its downloaded files."""

    version: str
    folder: Path
    contract: Contract


def wait_for_server(uri: str, *, timeout_seconds: float) -> None:
    """Wait until the tracking server is healthy; return at once if the store is not a server.

    A server that refuses connections is tried for `timeout_seconds`, one that never responds for up to twice as long.

    Raises:
        TrackingError: The server did not become healthy; the message has the last reason.
    """
    if not uri.startswith(("http://", "https://")):
        return
    retries = urllib3.Retry(
        # The first retry follows at once.
        total=math.ceil(timeout_seconds / _RETRY_SECONDS) + 1,
        backoff_factor=_RETRY_SECONDS,
        backoff_max=_RETRY_SECONDS,
        status_forcelist=range(400, 600),
    )
    # urllib3 logs the reason for each retry.
    logger.info("waiting for MLflow at %s for up to %.0f s", uri, timeout_seconds)
    try:
        with urllib3.PoolManager(retries=retries, timeout=_RETRY_SECONDS) as pool:
            pool.request("GET", f"{uri.rstrip('/')}/health")
    except urllib3.exceptions.MaxRetryError as error:
        raise TrackingError(f"MLflow at {uri} was not ready within {timeout_seconds:.0f} s: {error.reason}") from error
    except urllib3.exceptions.HTTPError as error:
        raise TrackingError(f"MLflow at {uri} is unavailable: {error}") from error


class Registry:
    """One registered model."""

    def __init__(self, client: MlflowClient, model_name: str) -> None:
        self._client = client
        self._model_name = model_name

    def production_version(self) -> str | None:
        """Return the version with the alias, else the newest version in the stage, else None."""
        try:
            return str(self._client.get_model_version_by_alias(self._model_name, PRODUCTION_ALIAS).version)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
        try:
            with _quiet_about_stages():
                staged = self._client.get_latest_versions(self._model_name, stages=[PRODUCTION_STAGE])
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            return None
        return str(staged[0].version) if staged else None

    def fetch(self, version: str, folder: Path) -> Champion:
        """Download a version's network and contract and verify them against its digest tags.

        Raises:
            TrackingError: A file is missing, does not match its digest, or is not a valid contract.
        """
        tags = self._client.get_model_version(self._model_name, version).tags
        source = self._client.get_model_version_download_uri(self._model_name, version)
        for name in (MODEL_FILE, CONTRACT_FILE):
            try:
                path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{source}/{name}", dst_path=str(folder)))
            except (MlflowException, OSError) as error:
                raise TrackingError(f"version {version}: {name} is unavailable: {error}") from error
            if sha256_of(path) != tags.get(f"sha256.{name}"):
                raise TrackingError(f"version {version}: {name} does not match the digest in its tags")
        try:
            contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
        except ValidationError as error:
            raise TrackingError(f"version {version}: contract.json: {error}") from error
        return Champion(version, folder, contract)

    def version_of_run(self, run_id: str) -> str | None:
        """Return the version that an earlier attempt of the same run registered, or None."""
        found = self._client.search_model_versions(f"run_id = '{run_id}' and name = '{self._model_name}'")
        return str(found[0].version) if found else None

    def register(self, *, model_uri: str, run_id: str, tags: dict[str, str], description: str) -> str:
        """Register a logged model with its tags and return its version; repeated calls return the same version."""
        existing = self.version_of_run(run_id)
        if existing is not None:
            return existing
        try:
            self._client.create_registered_model(self._model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = mlflow.register_model(model_uri, self._model_name, tags=tags, await_registration_for=60)
        text = shortened(description, LONGEST_DESCRIPTION)
        self._client.update_model_version(self._model_name, str(version.version), text)
        return str(version.version)

    def set_candidate(self, version: str) -> None:
        """Give a version the alias for versions that await a manual decision."""
        self._point(CANDIDATE_ALIAS, version)

    def set_tag(self, version: str, key: str, value: str) -> None:
        """Tag a version."""
        self._client.set_model_version_tag(self._model_name, version, key, value)

    def move_production_pointer(self, version: str, *, replacing: str | None) -> None:
        """Move the alias and the stage to `version`.

        The new version enters the stage before others leave it, and the alias moves atomically in between, so readers
        find a Production version at every moment. Each step can be repeated.
        """
        # Looked up before this version enters the stage: if two training runs move the pointer at the same moment, at
        # most one of them finds the other's version here.
        staged = self._in_stage(PRODUCTION_STAGE)
        with _quiet_about_stages():
            self._client.transition_model_version_stage(
                self._model_name, version, PRODUCTION_STAGE, archive_existing_versions=False
            )
            if replacing is not None and replacing != version:
                self._point(PREVIOUS_ALIAS, replacing)
            self._sign(version)
            self._point(PRODUCTION_ALIAS, version)
            for other in staged:
                if other != version:
                    self._client.transition_model_version_stage(self._model_name, other, "Archived")

    def _sign(self, version: str) -> None:
        """Say who moves the pointer to a version, for the operator's timeline; whoever moves it on does not."""
        run_id = self._client.get_model_version(self._model_name, version).run_id
        signature = f"{version} training run {run_id}" if run_id else version
        try:
            self._client.set_registered_model_tag(self._model_name, POINTER_TAG, signature)
        except MlflowException:
            # As with an alias: two training runs that create the tag at the same moment collide.
            self._client.set_registered_model_tag(self._model_name, POINTER_TAG, signature)

    def _point(self, alias: str, version: str) -> None:
        try:
            self._client.set_registered_model_alias(self._model_name, alias, version)
        except MlflowException:
            # Two training runs that create an alias at the same moment collide in the registry's database, which
            # refuses one of them; by now the alias exists and can be moved.
            self._client.set_registered_model_alias(self._model_name, alias, version)

    def _in_stage(self, stage: str) -> list[str]:
        versions = self._client.search_model_versions(f"name = '{self._model_name}'")
        return [str(version.version) for version in versions if version.current_stage == stage]


def _quiet_about_stages() -> warnings.catch_warnings:
    """Suppress the deprecation warning about stages, which many readers of registries still use."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)
