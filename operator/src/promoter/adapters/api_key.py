"""The API key for the decisions service, read for each request because keys are changed."""

from __future__ import annotations

from pathlib import Path

from promoter.adapters.secret_files import read_secret
from promoter.errors import RetryableError


async def authorization(url: str, file: Path | None) -> dict[str, str]:
    """Return the headers of a request to this service; none without a file.

    Raises:
        RetryableError: the file does not hold a key; it may soon.
    """
    if file is None:
        return {}
    key = await read_secret(file, f"the API key for {url}")
    if not key.isascii():
        raise RetryableError(f"{file} does not hold an API key: only printable ASCII is allowed")
    return {"Authorization": f"Bearer {key}"}
