"""The DriftReports port over the decisions service's HTTP API."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import aiohttp
from pydantic import TypeAdapter, ValidationError

from promoter.adapters.api_key import authorization
from promoter.decision.observation import DriftReport
from promoter.errors import RetryableError

_REPORT = TypeAdapter(DriftReport)
_DETAIL_LENGTH = 300


class HttpDriftReports:
    """A client for one decisions service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key_file: Path | None) -> None:
        """Take a session (its timeouts apply), the service's address, and the file with the API key."""
        self._session, self._url, self._key_file = session, url.rstrip("/"), key_file

    async def newest(self, model: str) -> DriftReport | None:
        """Return the newest report about a model, None if there is none.

        Raises:
            RetryableError: the service did not answer, refused the key, or answered something else than a report.
        """
        url = f"{self._url}/v1/models/{quote(model, safe='')}/drift"
        headers = await authorization(url, self._key_file)
        try:
            # Not to another host, which would get the key.
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RetryableError(f"{url}: {error or type(error).__name__}") from error
        if response.status == 404:
            return None
        if response.status != 200:
            detail = body.decode("utf-8", "replace")[:_DETAIL_LENGTH]
            raise RetryableError(f"{url} answered {response.status}: {detail}")
        try:
            return _REPORT.validate_json(body)
        except ValidationError as error:
            raise RetryableError(f"{url} does not answer with a drift report: {error}") from error
