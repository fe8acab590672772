"""A version's files on this pod's disk: from the archive if it has them, else from the registry; always verified."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

from decisions.archive.artifacts import CONTRACT, SHA256, artifact_key
from decisions.archive.bucket import Bucket, open_bucket
from decisions.archive.registry import Registry, TooLargeError
from decisions.errors import DecisionsError
from decisions.records.model_versions import ModelVersion
from decisions.replay.errors import LaterError, MismatchError, UnavailableError
from decisions.settings import ServeSettings

FILES = ("model.onnx", CONTRACT)
# Someone waits for the answer, and the registry may have it.
_STORE_ATTEMPTS, _STORE_SECONDS = 2, 5
# Writes a version's file to a path and returns its SHA-256; None if it is not there.
Get = Callable[[ModelVersion, str, Path], str | None]


@dataclass(frozen=True)
class Place:
    """Where files may be.

    Attributes:
        name: In answers.
        get: Gets a file; raises DecisionsError if the place cannot be reached.
    """

    name: str
    get: Get


@dataclass(frozen=True)
class VersionFiles:
    """A version's files: their folder, and the place that each came from."""

    folder: Path
    places: Mapping[str, str]


class FileStore:
    """The files of the versions that were replayed last; a method at a time, in any thread."""

    def __init__(self, places: Sequence[Place], folder: Path, versions: int, most_bytes: int) -> None:
        """Take the places in the order in which they are asked, and how many versions of which size are kept."""
        self._places, self._folder, self._versions, self._most_bytes = places, folder, versions, most_bytes
        self._known: OrderedDict[UUID, VersionFiles] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, version: ModelVersion) -> VersionFiles:
        """Return the files of a version, each with the SHA-256 that its decisions' record names.

        Raises:
            MismatchError: A place has another file under this name, and none has the right one.
            LaterError: No place has it, and one did not answer.
            UnavailableError: No place has it.
        """
        with self._lock:
            found = self._known.get(version.id)
            if found is None or not _is_intact(found, version):
                found = self._fetch(version)
            self._known[version.id] = found
            self._known.move_to_end(version.id)
            while len(self._known) > self._versions:
                _, oldest = self._known.popitem(last=False)
                shutil.rmtree(oldest.folder, ignore_errors=True)
            return found

    def _fetch(self, version: ModelVersion) -> VersionFiles:
        folder = self._folder / str(version.id)
        folder.mkdir(parents=True, exist_ok=True)
        return VersionFiles(folder, {file: self._get(version, file, folder / file) for file in FILES})

    def _get(self, version: ModelVersion, file: str, target: Path) -> str:
        """Write a file, and return the name of the place that had it."""
        digest, which = version.digests.get(file, ""), f"{file} of version {version.version} of {version.name}"
        if not SHA256.fullmatch(digest):
            raise UnavailableError(f"{which} cannot be verified: its recorded SHA-256 is {digest!r}")
        tried, reached, others = [], True, False
        for place in (*([_DATABASE] if file == CONTRACT else []), *self._places):
            try:
                found = place.get(version, file, target)
            except DecisionsError as error:
                tried.append(f"{place.name}: {error}")
                reached &= isinstance(error, TooLargeError)
                continue
            if found == digest and target.stat().st_size <= self._most_bytes:
                return place.name
            others |= found not in {None, digest}
            tried.append(f"{place.name}: {self._why_not(found, digest)}")
        kind = MismatchError if others else UnavailableError if reached else LaterError
        places = "; ".join(tried) or "no place, because none is configured"
        raise kind(f"{which}, SHA-256 {digest}, cannot be had; tried: {places}")

    def _why_not(self, found: str | None, digest: str) -> str:
        if found is None:
            return "not there"
        if found != digest:
            return f"there with SHA-256 {found}"
        return f"larger than {self._most_bytes} bytes"


def places_of(settings: ServeSettings) -> Iterator[Place]:
    """Yield the places that are configured: the archive, then the registry."""
    if name := settings.s3_bucket:

        @cache
        def bucket() -> Bucket:
            return open_bucket(name, settings.s3_prefix, settings.s3_endpoint_url, attempts=_STORE_ATTEMPTS,
                               timeout_seconds=_STORE_SECONDS)  # fmt: skip

        yield Place("archive", lambda version, file, target: from_archive(bucket(), version, file, target))
    if settings.mlflow_url:
        registry, most = Registry(settings.mlflow_url), settings.replay_model_mebibytes << 20
        yield Place(
            "registry",
            lambda version, file, target: registry.download(version.name, version.version, file, target, most),
        )


def from_archive(bucket: Bucket, version: ModelVersion, file: str, target: Path) -> str | None:
    """Write a file that the archive keeps and return its SHA-256; None if the archive does not have it."""
    key = artifact_key(version.digests[file])
    return None if bucket.metadata(key) is None else bucket.download(key, target)


def _from_database(version: ModelVersion, _: str, target: Path) -> str:
    """Write the contract, which is stored with the version."""
    target.write_bytes(version.contract)
    return hashlib.sha256(version.contract).hexdigest()


_DATABASE = Place("database", _from_database)


def _is_intact(files: VersionFiles, version: ModelVersion) -> bool:
    try:
        return all(_digest(files.folder / file) == version.digests.get(file) for file in FILES)
    except OSError:
        return False


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
