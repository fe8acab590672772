"""The API key for the decisions service, read for each request because keys are changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from promoter.errors import RetryableError


async def authorization(url: str, file: Path | None) -> dict[str, str]:
    """Return the headers of a request to this service; none without a file.

    Raises:
        RetryableError: the file does not hold a key; it may soon.
    """
    return {} if file is None else await asyncio.to_thread(_read, url, file)


def _read(url: str, file: Path) -> dict[str, str]:
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RetryableError(f"the API key for {url}: {error}") from error
    if not key.isascii() or not key.isprintable():
        raise RetryableError(f"{file} does not hold an API key: only printable ASCII is allowed")
    return {"Authorization": f"Bearer {key}"}
