"""Versions of a model in MLflow, reached by its address or through a port-forward of its Service.

The API server's service proxy would pass its own Host header on, which MLflow refuses; a port-forward also works where
network policies keep MLflow to itself.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from kubectl_promotion.cluster.kubectl import Kubectl, failure, read_all
from kubectl_promotion.errors import NOT_FOUND, REFUSED, UNREACHABLE, USAGE, CommandError

DEFAULT_SERVICE = "mlflow:5000"
_SERVICE = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9]*[a-z0-9])?):(?P<port>[0-9]{1,5}|[a-z][-a-z0-9]*)")
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_FORWARD_SECONDS = 30
_TIMEOUT = httpx.Timeout(10, read=60)
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


@dataclass(frozen=True)
class ModelVersion:
    """A version with the run that made it.

    Attributes:
        created_at: Seconds since 1970.
        contract: Its contract.json, None if it cannot be read.
        artifacts: Where the run's artifacts are.
    """

    model: str
    version: str
    run_id: str
    created_at: float
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: dict[str, float]
    contract: dict[str, Any] | None
    artifacts: str


class Mlflow:
    """A client for one MLflow server."""

    def __init__(self, http: httpx.Client) -> None:
        """Take a client that knows the server's address and how to log in."""
        self._http = http

    def version(self, model: str, version: str) -> ModelVersion:
        """Return a version.

        Raises:
            CommandError: there is none, or MLflow cannot be reached.
        """
        key = {"name": model, "version": version}
        found = (self._call("model-versions/get", **key) or {}).get("model_version")
        if found is None:
            raise CommandError(f"MLflow has no version {version} of the model {model}", NOT_FOUND)
        run_id = found.get("run_id", "")
        run = ((self._call("runs/get", run_id=run_id) if run_id else None) or {}).get("run") or {}
        data = run.get("data") or {}
        place = (self._call("model-versions/get-download-uri", **key) or {}).get("artifact_uri", "")
        return ModelVersion(
            model=model,
            version=version,
            run_id=run_id,
            created_at=int(found.get("creation_timestamp", 0)) / 1000,
            tags={tag["key"]: tag.get("value", "") for tag in found.get("tags") or []},
            parameters={item["key"]: item.get("value", "") for item in data.get("params") or []},
            metrics={item["key"]: float(item["value"]) for item in data.get("metrics") or []},
            contract=self._contract(place),
            artifacts=str((run.get("info") or {}).get("artifact_uri", "")),
        )

    def artifact(self, place: str, name: str) -> bytes | None:
        """Return a file below an artifact URI; None if there is none, or if MLflow does not serve that store.

        Raises:
            CommandError: MLflow cannot be reached, or failed.
        """
        where = urlsplit(place)
        if where.scheme != "mlflow-artifacts":
            return None
        path = f"/api/2.0/mlflow-artifacts/artifacts/{quote(where.path.strip('/'))}/{quote(name)}"
        answer = self._get(path, {})
        if answer.status_code in {httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST}:
            return None
        _check(answer)
        return answer.content

    def _contract(self, place: str) -> dict[str, Any] | None:
        content = self.artifact(place, "contract.json")
        try:
            found = httpx.Response(200, content=content).json() if content else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _call(self, path: str, **query: str) -> dict[str, Any] | None:
        """Return an answer of MLflow's REST API, None if what was asked for does not exist."""
        answer = self._get(f"/api/2.0/mlflow/{path}", query)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if isinstance(found, dict) and found.get("error_code") in _ABSENT:
            return None
        _check(answer)
        if not isinstance(found, dict):
            raise CommandError(f"{answer.url.copy_with(query=None)} does not answer as MLflow does", UNREACHABLE)
        return found

    def _get(self, path: str, query: dict[str, str]) -> httpx.Response:
        try:
            return self._http.get(path, params=query)
        except httpx.HTTPError as error:
            raise CommandError(f"cannot reach MLflow at {self._http.base_url}: {error or type(error).__name__}",
                               UNREACHABLE) from error  # fmt: skip


@contextmanager
def mlflow(kubectl: Kubectl, tracking_uri: str | None, service: str | None) -> Iterator[Mlflow]:
    """Reach MLflow for the duration of the block.

    Args:
        kubectl: The cluster that it runs in.
        tracking_uri: Its address, None to forward a port of its Service.
        service: `NAME:PORT`; wins over the address.

    Raises:
        CommandError: an argument is wrong, or the port cannot be forwarded.
    """
    if service is None and tracking_uri is not None:
        if urlsplit(tracking_uri).scheme not in {"http", "https"}:
            raise CommandError(f"--tracking-uri: {tracking_uri!r}; allowed: http://HOST:PORT or https://", USAGE)
        with _client(tracking_uri) as http:
            yield Mlflow(http)
        return
    with _forwarded(kubectl, service or DEFAULT_SERVICE) as url, _client(url) as http:
        yield Mlflow(http)


def _client(url: str) -> httpx.Client:
    """Return a client that logs in as MLflow's own client does."""
    token, user = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("TOKEN", "USERNAME"))
    headers = {"Authorization": f"Bearer {token}"} if token and not user else {}
    auth = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
    return httpx.Client(base_url=url.rstrip("/"), timeout=_TIMEOUT, headers=headers, auth=auth)


@contextmanager
def _forwarded(kubectl: Kubectl, service: str) -> Iterator[str]:
    if not (named := _SERVICE.fullmatch(service)):
        raise CommandError(f"--service: {service!r}; allowed: NAME:PORT, as in {DEFAULT_SERVICE}", USAGE)
    arguments = ("port-forward", f"service/{named['name']}", f":{named['port']}", "--address=127.0.0.1",
                 f"--namespace={kubectl.namespace}")  # fmt: skip
    with kubectl.running(*arguments) as process:
        stuck = threading.Timer(_FORWARD_SECONDS, process.kill)
        stuck.start()
        line = process.stdout.readline() if process.stdout else ""
        stuck.cancel()
        if not (forwarding := _FORWARDING.match(line)):
            process.kill()
            error = failure(read_all(process.stderr))
            raise CommandError(
                f"MLflow's Service {service} in namespace {kubectl.namespace} cannot be reached: {error}; give "
                "--tracking-uri, or --service", error.exit_code,
            )  # fmt: skip
        yield f"http://127.0.0.1:{forwarding[1]}"


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    refused = answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
    hint = "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN" if refused else ""
    raise CommandError(
        f"MLflow answers {answer.status_code} for {answer.url.path}{hint}", REFUSED if refused else UNREACHABLE
    )
