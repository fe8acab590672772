"""The copy of a version's files that the operator keeps in the cluster, mounted into the pod.

With it a pod starts while MLflow, Postgres and the object store are down. docs/adr/0013 says why it is in ConfigMaps;
contracts/artifact-copy.schema.json describes the manifest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from scorer.model.identity import Identity
from scorer.model.readiness import ArtifactRejectedError
from scorer.model.version_cache import VersionCache

MANIFEST = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version the copy is of, and the pieces of each of its files in order."""

    name: str
    version: str
    run_id: str
    digests: dict[str, str]
    metrics: dict[str, float]
    files: dict[str, tuple[str, ...]]


def restore_copy(volume: Path, cache: VersionCache, name: str, version: str) -> tuple[Identity, Path] | None:
    """Put a version's files together in the cache, verified against the manifest's digests.

    Args:
        volume: Where the copy is mounted; empty or absent without an operator.
        cache: Gets the files.
        name: The registered model.
        version: The version that this pod should serve.

    Returns:
        The version and the folder of its files, or None if the volume has no copy of this version.

    Raises:
        ArtifactRejectedError: If a piece is missing or a digest differs.
    """
    try:
        manifest = msgspec.json.decode((volume / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise ArtifactRejectedError(f"the copy in the cluster has no valid {MANIFEST}: {error}") from error
    if (manifest.name, manifest.version) != (name, version):
        return None
    identity = Identity(manifest.name, manifest.version, manifest.run_id, manifest.digests, manifest.metrics)
    files = {file: _joined(volume, file, pieces, manifest) for file, pieces in manifest.files.items()}
    return identity, cache.store(identity, files)


def _joined(volume: Path, file: str, pieces: tuple[str, ...], manifest: Manifest) -> bytes:
    try:
        content = b"".join((volume / Path(piece).name).read_bytes() for piece in pieces)
    except OSError as error:
        raise ArtifactRejectedError(
            f"the copy of version {manifest.version} of {manifest.name} in the cluster lacks a piece of {file}: {error}"
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != manifest.digests.get(file):
        raise ArtifactRejectedError(
            f"{file} of the copy of version {manifest.version} of {manifest.name} in the cluster has SHA-256 {found}, "
            f"the operator recorded {manifest.digests.get(file)}"
        )
    return content
