"""Verified versions on the pod's own disk: they outlive the container, and serve if the registry is down."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from scorer.model.identity import Identity
from scorer.model.readiness import ArtifactRejectedError

FILES = ("model.onnx", "contract.json")
_IDENTITY = "identity.json"


class VersionCache:
    """A folder with one folder per version: its files, and what the registry said of it."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is created when it is first needed."""
        self._folder = folder

    def find(self, identity: Identity) -> Path | None:
        """Return the folder of a version's files if they are there and match its digests; it counts as stored last."""
        folder = self._folder_of(identity)
        if not folder.exists() or any(_digest(folder / name) != identity.digests.get(name) for name in FILES):
            return None
        (folder / _IDENTITY).touch()
        return folder

    def store(self, identity: Identity, files: Mapping[str, bytes]) -> Path:
        """Store a version's files, all or none, and return their folder.

        Raises:
            ArtifactRejectedError: If a file is missing, or its SHA-256 differs from the version's digest.
        """
        for name in FILES:
            _check_digest(identity, name, files.get(name))
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            for name in FILES:
                (partial / name).write_bytes(files[name])
            (partial / _IDENTITY).write_bytes(msgspec.json.encode(identity))
            target = self._folder_of(identity)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def last_verified(self, name: str, version: str) -> tuple[Identity, Path] | None:
        """Return the version stored last and its folder; with a number, only that version. None if there is none."""
        newest_first = sorted(self._folder.glob(f"*/{_IDENTITY}"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in newest_first:
            try:
                identity = msgspec.json.decode(file.read_bytes(), type=Identity)
            except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
                continue
            wanted = identity.name == name and version in {"", identity.version}
            if wanted and (folder := self.find(identity)):
                return identity, folder
        return None

    def _folder_of(self, identity: Identity) -> Path:
        return self._folder / f"{identity.name}-{identity.version}"


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def _check_digest(identity: Identity, name: str, content: bytes | None) -> None:
    expected = identity.digests.get(name)
    if expected is None or content is None:
        missing = f"no tag sha256.{name}" if expected is None else f"no file {name}"
        raise ArtifactRejectedError(f"version {identity.version} of {identity.name} has {missing}")
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise ArtifactRejectedError(
            f"{name} of version {identity.version} of {identity.name} has SHA-256 {found}, its tag says {expected}"
        )
