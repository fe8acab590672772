"""The S3 bucket of the archive and of the seals."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from decisions.errors import DecisionsError

_ABSENT = {"404", "NoSuchKey", "NotFound"}
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_CHUNK_BYTES = 1 << 20


class TakenError(DecisionsError):
    """An object that must not be overwritten exists."""


@dataclass(frozen=True)
class Bucket:
    """A bucket and the prefix of all keys; every method raises DecisionsError if the store refuses."""

    name: str
    prefix: str
    client: Any = field(repr=False)

    def read(self, key: str) -> bytes:
        """Return a small object."""
        with self._errors(key):
            content: bytes = self.client.get_object(Bucket=self.name, Key=self._full(key))["Body"].read()
        return content

    def metadata(self, key: str) -> dict[str, str] | None:
        """Return what an object was stored with, or None if there is none."""
        with self._errors(key):
            try:
                found: dict[str, str] = self.client.head_object(Bucket=self.name, Key=self._full(key))["Metadata"]
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                return None
        return found

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in their order."""
        with self._errors(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self._full(prefix))
            found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return sorted(key.removeprefix(self._full("")) for key in found if not key.endswith("/"))

    def write_new(self, key: str, content: bytes, media_type: str = "application/json") -> None:
        """Write a small object that does not exist yet.

        Raises:
            TakenError: It exists.
        """
        # Stores that do not know If-None-Match ignore it.
        if self.metadata(key) is not None:
            raise self._taken(key)
        with self._errors(key):
            try:
                self.client.put_object(
                    Bucket=self.name, Key=self._full(key), Body=content, ContentType=media_type,
                    # A bucket with object lock asks for it.
                    ContentMD5=base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
                    IfNoneMatch="*",
                )  # fmt: skip
            except ClientError as error:
                if _code(error) in _TAKEN:
                    raise self._taken(key) from error
                raise

    def upload(self, key: str, file: Path, metadata: Mapping[str, str]) -> None:
        """Write a file to an object, as `put` does, and leave no older version of it."""
        self.put(key, file, metadata)
        with self._errors(key):
            self._delete_older_versions(key)

    def put(self, key: str, file: Path, metadata: Mapping[str, str]) -> None:
        """Write a file to an object, whole or not at all."""
        with self._errors(key):
            try:
                self.client.upload_file(str(file), self.name, self._full(key), ExtraArgs={"Metadata": dict(metadata)})
            except S3UploadFailedError as error:
                raise DecisionsError(str(error)) from error

    def download(self, key: str, file: Path) -> str:
        """Read an object into a file and return its SHA-256 in hex."""
        digest = hashlib.sha256()
        with self._errors(key), file.open("wb") as target:
            body = self.client.get_object(Bucket=self.name, Key=self._full(key))["Body"]
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                digest.update(chunk)
                target.write(chunk)
        return digest.hexdigest()

    def _delete_older_versions(self, key: str) -> None:
        """Delete what a bucket with versions kept of an overwritten object: inputs may have to be forgotten there."""
        if self.client.get_bucket_versioning(Bucket=self.name).get("Status") is None:
            return
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=self._full(key))
        for page in pages:
            for version in page.get("Versions", []):
                if version["Key"] == self._full(key) and not version["IsLatest"]:
                    self.client.delete_object(
                        Bucket=self.name, Key=version["Key"], VersionId=version["VersionId"]
                    )  # fmt: skip

    def _taken(self, key: str) -> TakenError:
        return TakenError(f"s3://{self.name}/{self._full(key)} exists and must not be overwritten")

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise DecisionsError(f"s3://{self.name}/{self._full(key)}: {error}") from error


def open_bucket(
    name: str, prefix: str, endpoint_url: str | None, *, attempts: int = 5, timeout_seconds: int = 60
) -> Bucket:
    """Return a bucket that is reached with the keys, region and role of boto3's own variables."""
    config = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required",
                    connect_timeout=timeout_seconds, read_timeout=timeout_seconds,
                    retries={"max_attempts": attempts})  # fmt: skip
    return Bucket(name, prefix.strip("/"), boto3.client("s3", endpoint_url=endpoint_url, config=config))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
