"""The model versions' files in the archive, so that decisions can be replayed when the registry has deleted them.

`models/<sha256>` is a file, by its digest; it is written once, and never removed.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from decisions.archive.bucket import Bucket, TakenError
from decisions.archive.registry import Registry, RegistryError
from decisions.errors import DecisionsError
from decisions.records.model_versions import ModelVersion

logger = logging.getLogger(__name__)
CONTRACT = "contract.json"
# Networks for tables of features have kilobytes to a few megabytes.
_MOST_BYTES = 256 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")
_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Kept:
    """What a run did about the versions' files.

    Attributes:
        files: How many were added to the archive.
        missing: The versions of which a file could not be had, as name and number.
    """

    files: int
    missing: tuple[str, ...]


def artifact_key(digest: str) -> str:
    """Return the key of a file with this SHA-256, in hex."""
    return f"models/{digest}"


def keep_artifacts(connection: psycopg.Connection, bucket: Bucket, registry: Registry | None) -> Kept:
    """Put the files of all versions that made decisions into the archive; what is missing is tried by the next run.

    Raises:
        DecisionsError: The store refuses.
    """
    kept, missing = 0, []
    known = {key.rpartition("/")[2] for key in bucket.keys(artifact_key(""))}
    for version in _versions(connection):
        problems = []
        for name, digest in sorted(version.digests.items()):
            if digest in known:
                continue
            try:
                _write(bucket, digest, _content(registry, version, name))
            except (_AbsentError, RegistryError) as error:
                problems.append(f"{name}: {error}")
                continue
            logger.info("kept %s of version %s of model %s, %s", name, version.version, version.name, digest)
            known.add(digest)
            kept += 1
        if problems:
            missing.append(f"{version.name} {version.version}")
            logger.warning("version %s of model %s is not kept, and tried again by the next run: %s", version.version,
                           version.name, "; ".join(problems))  # fmt: skip
    return Kept(kept, tuple(missing))


class _AbsentError(DecisionsError):
    """A file cannot be had."""


def _versions(connection: psycopg.Connection) -> Iterator[ModelVersion]:
    rows = connection.execute("SELECT name, version, digests, contract FROM model_versions ORDER BY name, version, id")
    return (ModelVersion(*row) for row in rows.fetchall())


def _content(registry: Registry | None, version: ModelVersion, name: str) -> bytes:
    """Return a version's file, whose digest is right."""
    digest = version.digests[name]
    if not SHA256.fullmatch(digest):
        raise _AbsentError(f"its digest is {digest!r}, which is no SHA-256 in hex")
    if name == CONTRACT and hashlib.sha256(version.contract).hexdigest() == digest:
        return version.contract
    if registry is None:
        raise _AbsentError("no registry is configured (DECISIONS_MLFLOW_URL)")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        found = registry.download(version.name, version.version, name, file, _MOST_BYTES)
        if found is None:
            raise _AbsentError(f"the registry at {registry.url} has it no more")
        if found != digest:
            raise _AbsentError(f"the registry at {registry.url} has one with SHA-256 {found} instead of {digest}")
        return file.read_bytes()


def _write(bucket: Bucket, digest: str, content: bytes) -> None:
    try:
        bucket.write_new(artifact_key(digest), content, _MEDIA_TYPE)
    except TakenError:
        # Written by another run meanwhile; what is under a digest is the same file.
        return
