"""The outbox's TimelineService over the decisions service's HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from promoter.adapters.api_key import authorization
from promoter.errors import PermanentError, RetryableError

# Invalid, too large, or in conflict with an event that has the same id.
_REFUSED = {400, 413, 422}
_DETAIL_LENGTH = 500


class HttpTimeline:
    """A client for one decisions service."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key_file: Path | None) -> None:
        """Take a session (its timeouts apply), the service's address, and the file with the API key."""
        self._session, self._url, self._key_file = session, url.rstrip("/"), key_file

    async def report(self, model: str, event: dict[str, Any]) -> None:
        """Report an event; reporting it again changes nothing.

        Raises:
            RetryableError: the service did not answer, or lacks or refuses the key; a later attempt may help.
            PermanentError: it refused this event.
        """
        url = f"{self._url}/v1/models/{quote(model, safe='')}/timeline"
        headers = await authorization(self._url, self._key_file)
        try:
            # Not to another host, which would get the key.
            async with self._session.post(url, json=event, headers=headers, allow_redirects=False) as response:
                detail = (await response.text(errors="replace"))[:_DETAIL_LENGTH]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RetryableError(f"{url}: {error or type(error).__name__}") from error
        if response.status != 200:
            failure = PermanentError if response.status in _REFUSED else RetryableError
            raise failure(f"{url} answered {response.status}: {detail}")
