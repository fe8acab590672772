"""The Registry port over MLflow's REST API: one cheap call per question."""

from __future__ import annotations

from typing import Any

import aiohttp

from promoter.api.spec import ModelRef
from promoter.errors import PermanentError, RetryableError

_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class MlflowRegistry:
    """A client of one MLflow server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Take a session (its timeouts apply) and the server's address."""
        self._session = session
        self._url = url.rstrip("/")

    async def desired(self, model: ModelRef) -> str | None:
        """Return the version that the pointer names, None where it names none.

        Raises:
            RetryableError: the server did not answer, or not as MLflow does.
            PermanentError: it refused the question.
        """
        kind, value = model.pointer
        if kind == "stage":
            body = {"name": model.name, "stages": [value]}
            answer = await self._ask("POST", "registered-models/get-latest-versions", json=body)
            found = (answer.get("model_versions") or [None])[0]
        else:
            path = "registered-models/alias" if kind == "alias" else "model-versions/get"
            answer = await self._ask("GET", path, params={"name": model.name, kind: value})
            found = answer.get("model_version")
        try:
            return str(found["version"]) if found else None
        except (KeyError, TypeError) as error:
            raise RetryableError(f"{self._url} answered {answer} and no version") from error

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Write tags on a version; a version that is gone needs none."""
        for key, value in tags.items():
            body = {"name": model, "version": version, "key": key, "value": value}
            await self._ask("POST", "model-versions/set-tag", json=body)

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the answer, empty for what is not there."""
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
            raise RetryableError(f"{url} answered no JSON object")
        failure = RetryableError if response.status >= 500 or response.status == 429 else PermanentError
        raise failure(f"{url} answered {response.status}")
