"""A version's files from MLflow, found and verified by the scoring service's own code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from creditrisk_scoring.distributions import REFERENCE
from creditrisk_scoring.errors import BulkError
from scorer.model.readiness import LoadingError
from scorer.model.registry import Registry
from scorer.model.version_cache import VersionCache

_TIMEOUT = aiohttp.ClientTimeout(total=300, connect=10)


def fetch_version(url: str, name: str, version: str, folder: Path, *, alias: str = "") -> Path:
    """Download a version into a folder, verify its digests, and return the folder of its files.

    Args:
        url: Of the MLflow server.
        name: Of the registered model.
        version: Its number; empty for the one that the alias names.
        folder: Gets a folder for the version.
        alias: Of a version.

    Raises:
        BulkError: The registry cannot be reached, has no such version, or its files are not those of its tags.
    """
    try:
        return asyncio.run(_fetch(url, name, version, folder, alias))
    except LoadingError as error:
        raise BulkError(str(error)) from error


async def _fetch(url: str, name: str, version: str, folder: Path, alias: str) -> Path:
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        registry = Registry(session, url)
        found = await registry.find(name, version=version, alias=alias, stage="")
        fetched = await registry.fetch(found, VersionCache(folder))
        if (reference := await registry.fetch_other(found, REFERENCE)) is not None:
            (fetched / REFERENCE).write_bytes(reference)
        return fetched
