"""The Checks port over the decisions service's HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
from pydantic import TypeAdapter, ValidationError

from promoter.adapters.api_key import authorization
from promoter.decision.observation import CheckAnswer
from promoter.errors import RetryableError

_ANSWER = TypeAdapter(CheckAnswer)
_DETAIL_LENGTH = 300


class HttpChecks:
    """A client for one decisions service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key_file: Path | None) -> None:
        """Take a session (its timeouts apply), the service's address, and the file with the API key."""
        self._session, self._url, self._key_file = session, f"{url.rstrip('/')}/v1/checks", key_file

    async def check(self, request: dict[str, Any]) -> CheckAnswer | str:
        """Return what the service found, or why there is nothing."""
        try:
            headers = await authorization(self._url, self._key_file)
            # Not to another host, which would get the key.
            async with self._session.post(self._url, json=request, headers=headers, allow_redirects=False) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, RetryableError) as error:
            return f"{self._url}: {error or type(error).__name__}"
        if response.status != 200:
            return f"the decisions service answered {response.status}: {_detail(body)}"
        try:
            return _ANSWER.validate_json(body)
        except ValidationError as error:
            return f"{self._url} does not answer as a decisions service: {error.error_count()} fields are wrong"


def _detail(body: bytes) -> str:
    """Return what a problem says, or the body if it is none."""
    try:
        detail = TypeAdapter(dict[str, Any]).validate_json(body).get("detail")
    except ValidationError:
        detail = None
    return str(detail or body.decode("utf-8", "replace"))[:_DETAIL_LENGTH]
