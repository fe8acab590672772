"""The Registry port over MLflow's REST API; a pointer costs one cheap call."""

from __future__ import annotations

import contextlib
import hashlib
import math
from typing import Any, get_args
from urllib.parse import quote, urlsplit

import aiohttp

from promoter.api.spec import ModelRef
from promoter.errors import ArtifactsError, PermanentError, RetryableError
from promoter.ports import RunStatus, VersionFiles

FILES = ("model.onnx", "contract.json")
# Three versions are kept per promotion; etcd's default quota for everything is 2 GiB.
MAX_BYTES = 8 << 20
_TOO_LARGE = f"the files take more than {MAX_BYTES >> 20} MiB, the most that is kept in the cluster"
# On the registered model: which version the pointer was moved to, and by whom. The trainer writes it.
POINTER_TAG = "creditrisk.io.pointer"
_LAST_RUNS = 20
# The trainer tags its runs with the commit, and leaves the trials of a search without that tag.
_NO_TRIALS = "tags.`git.revision` LIKE '%'"
_STATUSES: dict[str, RunStatus] = {"FINISHED": "finished", "RUNNING": "running"}
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class MlflowRegistry:
    """A client for one MLflow server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Take a session (its timeouts apply) and the server's address."""
        self._session = session
        self._url = url.rstrip("/")

    async def desired_version(self, model: ModelRef) -> str | None:
        """Return the version that the pointer names, None if it names none.

        Raises:
            RetryableError: the server did not answer, or not with what MLflow returns.
            PermanentError: the server refused the request.
        """
        kind, value = model.pointer
        if kind == "stage":
            body = {"name": model.name, "stages": [value]}
            answer = await self._call("POST", "registered-models/get-latest-versions", json=body)
            found = (answer.get("model_versions") or [None])[0]
        else:
            path = "registered-models/alias" if kind == "alias" else "model-versions/get"
            answer = await self._call("GET", path, params={"name": model.name, kind: value})
            found = answer.get("model_version")
        try:
            return str(found["version"]) if found else None
        except (KeyError, TypeError) as error:
            raise RetryableError(f"{self._url} answered {answer}, without a version") from error

    async def version_exists(self, model: str, version: str) -> bool:
        """Return whether the registry has a version.

        Raises:
            RetryableError: the server did not answer.
            PermanentError: the server refused the request.
        """
        return bool(await self._call("GET", "model-versions/get", params={"name": model, "version": version}))

    async def moved_by(self, model: ModelRef, version: str | None) -> str | None:
        """Return who moved the pointer to a version, None if that is not recorded.

        Raises:
            RetryableError: the server did not answer.
            PermanentError: the server refused the request.
        """
        found = (await self._call("GET", "registered-models/get", params={"name": model.name})).get("registered_model")
        tags = {tag["key"]: tag.get("value", "") for tag in (found or {}).get("tags", [])}
        moved_to, _, who = tags.get(POINTER_TAG, "").partition(" ")
        # Whoever moved the pointer on without writing the tag did not say who they are.
        return who or None if moved_to == version else None

    async def trained_by(self, model: str, version: str) -> tuple[str, ...]:
        """Return who trained a version (its run's tag `mlflow.user`) and who registered it, as far as that is recorded.

        Raises:
            RetryableError: the server did not answer.
            PermanentError: the server refused the request.
        """
        key = {"name": model, "version": version}
        found = (await self._call("GET", "model-versions/get", params=key)).get("model_version") or {}
        run: dict[str, Any] = {}
        if run_id := found.get("run_id"):
            run = (await self._call("GET", "runs/get", params={"run_id": run_id})).get("run") or {}
        tags = {tag["key"]: tag.get("value", "") for tag in run.get("data", {}).get("tags", [])}
        names = (found.get("user_id"), run.get("info", {}).get("user_id"), tags.get("mlflow.user"))
        return tuple(dict.fromkeys(str(name) for name in names if name))

    async def last_runs(self, model: str) -> dict[RunStatus, float]:
        """Return when the newest training run of a model with each status ended, or began if it is running.

        In seconds since 1970, 0 if there is none among the model's last runs. Trials of a search do not count.

        Raises:
            RetryableError: the server did not answer, or not with what MLflow returns.
            PermanentError: the server refused the request.
        """
        # The trainer's experiment has the model's name.
        found = await self._call("GET", "experiments/get-by-name", params={"experiment_name": model})
        newest: dict[RunStatus, float] = dict.fromkeys(get_args(RunStatus), 0.0)
        if not (experiment := found.get("experiment")):
            return newest
        body = {"experiment_ids": [experiment.get("experiment_id")], "filter": _NO_TRIALS, "max_results": _LAST_RUNS,
                "order_by": ["attributes.start_time DESC"]}  # fmt: skip
        answer = await self._call("POST", "runs/search", json=body)
        try:
            for run in answer.get("runs", []):
                info, tags = run["info"], {tag["key"] for tag in run["data"].get("tags", [])}
                if status := _run_status(info["status"], tags):
                    newest[status] = max(newest[status], int(info.get("end_time") or info["start_time"]) / 1000)
        except (KeyError, TypeError, ValueError) as error:
            raise RetryableError(f"{self._url} answered with runs that lack something: {error!r}") from error
        return newest

    async def download(self, model: str, version: str) -> VersionFiles:
        """Return a version's files, verified against the digests in its tags.

        Raises:
            RetryableError: the server did not answer.
            ArtifactsError: the version is gone, its files are too large to be kept, or they differ from their digests.
        """
        key = {"name": model, "version": version}
        found = (await self._call("GET", "model-versions/get", params=key)).get("model_version")
        location = (await self._call("GET", "model-versions/get-download-uri", params=key)).get("artifact_uri")
        if not found or not location:
            raise ArtifactsError("VersionNotFound", f"the registry has no version {version} of {model}")
        tags = {tag["key"]: tag.get("value", "") for tag in found.get("tags", [])}
        content: dict[str, bytes] = {}
        for name in FILES:
            content[name] = await self._file(location, name, MAX_BYTES - sum(map(len, content.values())))
            _check_digest(name, content[name], tags.get(f"sha256.{name}"))
        return VersionFiles(
            name=model,
            version=version,
            run_id=found.get("run_id", ""),
            digests={name: tags[f"sha256.{name}"] for name in FILES},
            metrics=_metrics(tags),
            content=content,
        )

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Write tags on a version; a deleted version is ignored.

        Raises:
            RetryableError: the server did not answer.
            PermanentError: the server refused the request.
        """
        for key, value in tags.items():
            body = {"name": model, "version": version, "key": key, "value": value}
            await self._call("POST", "model-versions/set-tag", json=body)

    async def _file(self, location: str, name: str, limit: int) -> bytes:
        place = urlsplit(location)
        if place.scheme != "mlflow-artifacts":
            raise ArtifactsError(
                "Refused", f"{name} is stored at {location}, which MLflow does not proxy; run it with --serve-artifacts"
            )
        url = f"{self._url}/api/2.0/mlflow-artifacts/artifacts/{quote(place.path.strip('/'))}/{name}"
        try:
            async with self._session.get(url) as response:
                if response.status == 404:
                    raise ArtifactsError("Rejected", f"{url}: there is no such file")
                if response.status != 200:
                    raise RetryableError(f"{url} answered {response.status}")
                content = bytearray()
                if (response.content_length or 0) > limit:
                    raise ArtifactsError("TooLarge", _TOO_LARGE)
                async for chunk in response.content.iter_chunked(1 << 16):
                    content += chunk
                    if len(content) > limit:
                        raise ArtifactsError("TooLarge", _TOO_LARGE)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RetryableError(f"{url}: {error or type(error).__name__}") from error
        return bytes(content)

    async def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the answer, empty if the object does not exist."""
        url = f"{self._url}/api/2.0/mlflow/{path}"
        try:
            async with self._session.request(method, url, **options) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RetryableError(f"{url}: {error or type(error).__name__}") from error
        if response.status == 200 and isinstance(answer, dict):
            return answer
        if isinstance(answer, dict) and answer.get("error_code") in _ABSENT:
            return {}
        if response.status == 200:
            raise RetryableError(f"{url} did not answer with a JSON object")
        failure = RetryableError if response.status >= 500 or response.status == 429 else PermanentError
        raise failure(f"{url} answered {response.status}")


def _run_status(status: str, tags: set[str]) -> RunStatus | None:
    """Return a run's status, as metrics name it; None for one that somebody ended on purpose."""
    if status == "FAILED":
        # The trainer's tag: a gate refused the model.
        return "refused" if "refused" in tags else "failed"
    return _STATUSES.get(status)


def _metrics(tags: dict[str, str]) -> dict[str, float]:
    """Return the metrics among a version's tags; anybody can write tags, and JSON has no NaN."""
    metrics = {}
    for key, value in tags.items():
        with contextlib.suppress(ValueError):
            if key.startswith("metric.") and math.isfinite(number := float(value)):
                metrics[key.removeprefix("metric.")] = number
    return metrics


def _check_digest(name: str, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        said = f"its tag says {expected}" if expected else f"the version has no tag sha256.{name}"
        raise ArtifactsError("Rejected", f"{name} has SHA-256 {found}, {said}")
