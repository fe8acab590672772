"""Folders on disk and in S3, in which a file is there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from creditrisk_scoring.errors import BulkError, UsageError

STAGING = "_bulk/staging"


@dataclass(frozen=True)
class Folder:
    """A folder.

    Attributes:
        url: As people name it.
        filesystem: Where it is.
        root: Its path there.
    """

    url: str
    filesystem: fs.FileSystem
    root: str

    def files(self, folder: str = "") -> list[fs.FileInfo]:
        """Return the files in this folder, or in one within it, at any depth, by path; none if it does not exist."""
        selector = fs.FileSelector(self.path(folder), recursive=True, allow_not_found=True)
        with self._errors(folder):
            found = self.filesystem.get_file_info(selector)
        return sorted((info for info in found if info.type == fs.FileType.File), key=lambda info: info.path)

    def name_of(self, info: fs.FileInfo) -> str:
        """Return a file's path within this folder."""
        return str(info.path).removeprefix(f"{self.root}/")

    def state(self, name: str) -> tuple[int, int] | None:
        """Return a file's size in bytes, and when it was modified, in nanoseconds; None if there is no such file."""
        with self._errors(name):
            (info,) = self.filesystem.get_file_info([self.path(name)])
        return state_of(info) if info.type == fs.FileType.File else None

    def open(self, name: str) -> pa.NativeFile:
        """Open a file to read any part of it."""
        with self._errors(name):
            return self.filesystem.open_input_file(self.path(name))

    def read(self, name: str) -> bytes | None:
        """Return a small file's content; None if there is no such file."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(name, error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with self.staged(name) as stream:
            stream.write(content)

    @contextmanager
    def staged(self, name: str) -> Iterator[pa.NativeFile]:
        """Give a stream; what is written to it becomes the file when the block ends, or nothing if it fails.

        Two processes may write the same file: one of their files is then there, whole.
        """
        aside, target = self.path(f"{STAGING}/{uuid.uuid4().hex}"), self.path(name)
        with self._errors(name):
            self._make_parents(aside)
            # Closing it after a failure publishes nothing: the name is not the file's.
            with self.filesystem.open_output_stream(aside) as stream:
                yield stream
            self._make_parents(target)
            # A rename on disk; in S3 a copy within the store, whose object appears at once.
            self.filesystem.move(aside, target)

    def delete_files(self, folder: str) -> None:
        """Delete the files in a folder within this one, unless others do so at the same time."""
        for info in self.files(folder):
            with self._errors(info.path), suppress(FileNotFoundError):
                self.filesystem.delete_file(info.path)

    def path(self, name: str) -> str:
        """Return the path of a file within this folder."""
        return f"{self.root}/{name}" if name else self.root

    def _make_parents(self, path: str) -> None:
        # S3 has no folders; asked to create one, Arrow would write an empty object.
        if isinstance(self.filesystem, fs.LocalFileSystem):
            self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(name, error) from error

    def _error(self, name: str, error: OSError) -> BulkError:
        return BulkError(f"{self.url}/{name}: {error}")


def state_of(info: fs.FileInfo) -> tuple[int, int]:
    """Return a file's size in bytes, and when it was modified, in nanoseconds since 1970."""
    return int(info.size), int(info.mtime_ns or 0)


def open_folder(text: str) -> Folder:
    """Return a folder: a path, or s3://bucket/prefix with keys and region from the variables that AWS's tools read.

    `AWS_ENDPOINT_URL` names another store than AWS's.

    Raises:
        UsageError: It is neither, or the store's address is none.
    """
    if "://" not in text:
        return Folder(text, fs.LocalFileSystem(), str(Path(text).absolute()))
    parts = urlsplit(text)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"{text}: allowed are a path and s3://BUCKET/PREFIX")
    return Folder(text.rstrip("/"), _s3(), f"{parts.netloc}{parts.path}".rstrip("/"))


@dataclass(frozen=True)
class S3Store:
    """Where S3 is, by the variables that AWS's tools read.

    Attributes:
        endpoint: Its URL; None for AWS.
        region: None for what AWS's files say.
        ca_bundle: A file with the certificates to trust; None for the public ones.
    """

    endpoint: str | None
    region: str | None
    ca_bundle: str | None


def s3_store() -> S3Store:
    """Return the store of the environment."""
    value = os.environ.get
    return S3Store(
        value("AWS_ENDPOINT_URL_S3") or value("AWS_ENDPOINT_URL") or None,
        value("AWS_REGION") or value("AWS_DEFAULT_REGION") or None, value("AWS_CA_BUNDLE") or None,
    )  # fmt: skip


def _s3() -> fs.FileSystem:
    store = s3_store()
    address = urlsplit(store.endpoint or "https://")
    if address.scheme not in {"http", "https"} or (store.endpoint and not address.netloc):
        raise UsageError(f"AWS_ENDPOINT_URL {store.endpoint}; allowed: http://HOST:PORT and https://HOST:PORT")
    return fs.S3FileSystem(
        region=store.region, endpoint_override=address.netloc or None, scheme=address.scheme,
        tls_ca_file_path=store.ca_bundle,
    )  # fmt: skip
