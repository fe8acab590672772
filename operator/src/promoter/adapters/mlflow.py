"""The Registry port over MLflow's REST API; a pointer costs one cheap call."""

from __future__ import annotations

from typing import Any

import aiohttp

from promoter.api.spec import ModelRef
from promoter.errors import PermanentError, RetryableError

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

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Write tags on a version; a deleted version is ignored.

        Raises:
            RetryableError: the server did not answer.
            PermanentError: the server refused the request.
        """
        for key, value in tags.items():
            body = {"name": model, "version": version, "key": key, "value": value}
            await self._call("POST", "model-versions/set-tag", json=body)

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
