"""Finds and fetches model versions over MLflow's REST API: no MLflow client and no S3 keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp

from scorer.model.identity import Identity
from scorer.model.readiness import ArtifactRejectedError, RegistryUnavailableError, VersionNotFoundError
from scorer.model.version_cache import FILES, VersionCache

# MLflow's error codes if there is no such model, version or alias.
NOT_FOUND = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


@dataclass(frozen=True)
class Version:
    """A model version, and where its files are."""

    identity: Identity
    source: str


class Registry:
    """A client of one MLflow server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Take a session (its timeouts apply) and the server's address."""
        self._session = session
        self._url = url.rstrip("/")

    async def find(self, name: str, *, version: str, alias: str, stage: str) -> Version:
        """Return the version with that number; without a number, the alias's version, or else the newest in the stage.

        Raises:
            RegistryUnavailableError: If the server does not answer.
            VersionNotFoundError: If it has no such version; the message says what was looked for.
        """
        if version:
            found = await self._get("model-versions/get", {"name": name, "version": version})
            looked_for = f"version {version} of {name}"
        else:
            found = await self._get("registered-models/alias", {"name": name, "alias": alias})
            if found is None:
                found = await self._latest(name, stage)
            looked_for = f"version of {name} with the alias {alias!r} or in the stage {stage!r}"
        if found is None:
            raise VersionNotFoundError(f"the registry at {self._url} has no {looked_for}")
        described = found["model_version"]
        key = {"name": name, "version": described["version"]}
        location = await self._get("model-versions/get-download-uri", key)
        if location is None:
            raise VersionNotFoundError(
                f"the registry at {self._url} has no files for version {key['version']} of {name}"
            )
        return Version(_identity(described), location["artifact_uri"])

    async def fetch(self, version: Version, cache: VersionCache) -> Path:
        """Return the folder of the version's files in the cache, downloading them if need be.

        Raises:
            RegistryUnavailableError: If a file cannot be downloaded.
            ArtifactRejectedError: If a file's SHA-256 differs from the version's tag.
        """
        if folder := cache.find(version.identity):
            return folder
        files = {name: await self._download(version, name) for name in FILES}
        return cache.store(version.identity, files)

    async def fetch_other(self, version: Version, name: str) -> bytes | None:
        """Return a file of the version that serving does not need; None if the registry does not give one.

        A version without the file is answered by 404 or, with some stores behind MLflow, by 500.
        """
        try:
            return await self._download(version, name)
        except RegistryUnavailableError as error:
            if error.status in {404, 500}:
                return None
            raise

    async def _latest(self, name: str, stage: str) -> dict[str, dict[str, str]] | None:
        body = {"name": name, "stages": [stage]}
        found = await self._request("POST", "registered-models/get-latest-versions", json=body)
        versions = (found or {}).get("model_versions", [])
        return {"model_version": versions[0]} if versions else None

    async def _get(self, path: str, query: dict[str, str]) -> dict | None:  # type: ignore[type-arg]
        return await self._request("GET", path, params=query)

    async def _request(self, method: str, path: str, **options: object) -> dict | None:  # type: ignore[type-arg]
        url = f"{self._url}/api/2.0/mlflow/{path}"
        try:
            async with self._session.request(method, url, **options) as response:  # type: ignore[arg-type]
                answer = await response.json(content_type=None)
                if response.status == 200 and isinstance(answer, dict):
                    return answer
                if isinstance(answer, dict) and answer.get("error_code") in NOT_FOUND:
                    return None
                raise RegistryUnavailableError(f"{url} answered {response.status}")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RegistryUnavailableError(f"{url}: {error or type(error).__name__}") from error

    async def _download(self, version: Version, name: str) -> bytes:
        location = urlsplit(version.source)
        if location.scheme != "mlflow-artifacts":
            raise ArtifactRejectedError(
                f"version {version.identity.version} is stored at {version.source}, which the registry does not proxy; "
                "run the MLflow server with --serve-artifacts"
            )
        url = f"{self._url}/api/2.0/mlflow-artifacts/artifacts/{quote(location.path.strip('/'))}/{name}"
        try:
            async with self._session.get(url) as response:
                if response.status != 200:
                    raise RegistryUnavailableError(f"{url} answered {response.status}", response.status)
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RegistryUnavailableError(f"{url}: {error or type(error).__name__}") from error


def _identity(described: dict) -> Identity:  # type: ignore[type-arg]
    tags = {tag["key"]: tag["value"] for tag in described.get("tags", [])}
    metrics = {key.removeprefix("metric."): float(value) for key, value in tags.items() if key.startswith("metric.")}
    digests = {key.removeprefix("sha256."): value for key, value in tags.items() if key.startswith("sha256.")}
    return Identity(described["name"], str(described["version"]), described.get("run_id", ""), digests, metrics)
