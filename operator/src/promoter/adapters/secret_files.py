"""Secrets in mounted files, read for each use, because they are changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from promoter.errors import RetryableError


async def read_secret(file: Path, what: str) -> str:
    """Return the content of a file; `what` it is goes into errors, its content never does.

    Raises:
        RetryableError: there is none yet, or it holds something else.
    """
    try:
        content = (await asyncio.to_thread(file.read_text, "utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RetryableError(f"{what}: {file} cannot be read: {type(error).__name__}") from None
    if not content or not content.isprintable():
        raise RetryableError(f"{what}: {file} must hold one line of printable characters")
    return content


def without(text: str, *secrets: str) -> str:
    """Return a text, which may be another system's, without secrets."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text
