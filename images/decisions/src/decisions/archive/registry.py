"""Model versions' files from MLflow, over its REST API: no MLflow client, and no keys of its artifact store."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import urllib3
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from decisions.errors import DecisionsError

# MLflow's error codes if there is no such model or version.
_NOT_FOUND = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
_TIMEOUT = Timeout(connect=5, read=30)
_CHUNK_BYTES = 1 << 20


class RegistryError(DecisionsError):
    """The registry cannot be reached, or fails; a later attempt may succeed."""


class TooLargeError(RegistryError):
    """A file is larger than what is taken."""


class Registry:
    """A client of one MLflow server that serves artifacts; its methods raise RegistryError."""

    def __init__(self, url: str) -> None:
        """Take the server's address."""
        self.url = url.rstrip("/")
        self._pool = PoolManager(timeout=_TIMEOUT, retries=urllib3.Retry(2, redirect=0, backoff_factor=0.2))

    def download(self, name: str, version: str, file: str, target: Path, most_bytes: int) -> str | None:
        """Read a file of a version into another and return its SHA-256 in hex, or None if the registry has none.

        Args:
            name: Of the registered model.
            version: Its number.
            file: Such as model.onnx.
            target: Gets the content.
            most_bytes: A larger one is an error.
        """
        source = self._source(name, version)
        if source is None:
            return None
        location = urlsplit(source)
        if location.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"version {version} of {name} is stored at {source}, which the registry does not proxy; run the MLflow "
                "server with --serve-artifacts"
            )
        path = f"{location.path.strip('/')}/{file}"
        url = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"
        try:
            with self._pool.request("GET", url, preload_content=False) as response:
                if response.status == 404:
                    return None
                if response.status != 200:
                    raise RegistryError(f"{url} answered {response.status}")
                return _save(response, target, most_bytes, url)
        except HTTPError as error:
            raise RegistryError(f"{url}: {error}") from error

    def registered_at(self, name: str, version: str) -> datetime | None:
        """Return when a version was registered, in UTC, or None if the registry has no such version."""
        found = self._ask("get", name, version)
        if found is None:
            return None
        try:
            # A 64-bit integer may be written as a text.
            return datetime.fromtimestamp(int(found["model_version"]["creation_timestamp"]) / 1000, UTC)
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError(f"{self.url} does not say when version {version} of {name} was registered") from error

    def _source(self, name: str, version: str) -> str | None:
        """Return where a version's files are, or None if the registry has no such version."""
        found = self._ask("get-download-uri", name, version)
        if found is None:
            return None
        if not isinstance(found.get("artifact_uri"), str):
            raise RegistryError(f"{self.url} does not say where version {version} of {name} is stored")
        return str(found["artifact_uri"])

    def _ask(self, endpoint: str, name: str, version: str) -> dict[str, Any] | None:
        """Return an answer about a version, or None if the registry has no such version."""
        url = f"{self.url}/api/2.0/mlflow/model-versions/{endpoint}"
        try:
            response = self._pool.request("GET", url, fields={"name": name, "version": version})
            answer = msgspec.json.decode(response.data, type=dict[str, Any])
        except HTTPError as error:
            raise RegistryError(f"{url}: {error}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RegistryError(f"{url} answered {response.status}, and not as MLflow does") from error
        if response.status == 200:
            return answer
        if answer.get("error_code") in _NOT_FOUND:
            return None
        raise RegistryError(f"{url} answered {response.status}")


def _save(response: BaseHTTPResponse, target: Path, most_bytes: int, url: str) -> str:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        for chunk in response.stream(_CHUNK_BYTES):
            size += len(chunk)
            if size > most_bytes:
                raise TooLargeError(f"{url} has more than {most_bytes} bytes")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
