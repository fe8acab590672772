"""One S3 bucket through plain calls that every S3 server understands."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from backup.errors import BackupError, ObjectMissingError
from backup.settings import Settings

_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_PRESENT = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
_CHUNK_BYTES = 1 << 20
# Files are already copied in parallel.
_TRANSFER = TransferConfig(use_threads=False)
CONNECTIONS = 8


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it; `size` in bytes."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Content:
    """What was read of an object; `size` in bytes, `sha256` in hex."""

    size: int
    sha256: str
    content_type: str


@dataclass(frozen=True)
class Bucket:
    """A bucket, and headers that all writes to it carry.

    Every method raises BackupError if the store cannot be reached or refuses.
    """

    name: str
    client: Any = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict)

    def create_if_absent(self) -> None:
        """Create the bucket unless it exists."""
        with self._errors(""):
            try:
                self.client.head_bucket(Bucket=self.name)
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                try:
                    self.client.create_bucket(Bucket=self.name, **self._location())
                except ClientError as refusal:
                    if _code(refusal) not in _PRESENT:
                        raise

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys start with `prefix`, in the order of their keys; none if there is no bucket."""
        with self._errors(prefix):
            try:
                for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                    for item in page.get("Contents", []):
                        # Some servers list folders too.
                        if not item["Key"].endswith("/"):
                            yield StoredObject(item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"])
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise

    def read(self, key: str, target: Path | None = None) -> Content:
        """Read an object, into the file `target` if given, and return its digest.

        Raises:
            ObjectMissingError: There is no such object.
        """
        with self._errors(key):
            answer = self.client.get_object(Bucket=self.name, Key=key)
            digest, size = hashlib.sha256(), 0
            with target.open("wb") if target else contextlib.nullcontext() as file:
                for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    if file:
                        file.write(chunk)
        return Content(size, digest.hexdigest(), answer.get("ContentType", ""))

    def read_text(self, key: str) -> str:
        """Return a small object's text.

        Raises:
            ObjectMissingError: There is no such object.
        """
        with self._errors(key):
            return str(self.client.get_object(Bucket=self.name, Key=key)["Body"].read().decode())

    def write(self, key: str, source: Path, *, content_type: str = "") -> None:
        """Write a file to an object, in parts if it is large."""
        extra = {**self.headers, **({"ContentType": content_type} if content_type else {})}
        with self._errors(key):
            self.client.upload_file(str(source), self.name, key, ExtraArgs=extra, Config=_TRANSFER)

    def write_text(self, key: str, text: str) -> None:
        """Write a small JSON object."""
        with self._errors(key):
            self.client.put_object(
                Bucket=self.name, Key=key, Body=text.encode(), ContentType="application/json", **self.headers
            )

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        with self._errors(key):
            self.client.delete_object(Bucket=self.name, Key=key)

    def _location(self) -> dict[str, Any]:
        """AWS wants the region of a new bucket named unless it is the default one."""
        region = self.client.meta.region_name
        return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if _code(error) in _ABSENT:
                raise ObjectMissingError(f"s3://{self.name}/{key} does not exist") from error
            raise BackupError(f"s3://{self.name}/{key}: {error}") from error
        except (BotoCoreError, boto3.exceptions.Boto3Error, OSError) as error:
            raise BackupError(f"s3://{self.name}/{key}: {error}") from error


def artifact_bucket(settings: Settings) -> Bucket:
    """Return MLflow's bucket, as the AWS_* variables of the process describe its store."""
    return Bucket(settings.artifact_bucket, boto3.client("s3", config=_config()))


def backup_bucket(settings: Settings) -> Bucket:
    """Return the bucket of the backups; what is written there is encrypted as the settings say."""
    headers: dict[str, str] = {}
    if settings.encryption:
        headers["ServerSideEncryption"] = settings.encryption
    if settings.encryption == "aws:kms" and settings.kms_key_id:
        headers["SSEKMSKeyId"] = settings.kms_key_id
    return Bucket(settings.bucket, _backup_client(settings), headers)


def _backup_client(settings: Settings) -> Any:  # noqa: ANN401 - boto3 makes its clients at run time
    if (store := settings.store) is None:
        return boto3.client("s3", config=_config())
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint or None,
        region_name=store.region,
        aws_access_key_id=store.access_key_id or None,
        aws_secret_access_key=store.secret_access_key or None,
        # AWS_ENDPOINT_URL names the artifacts' store.
        config=_config(ignore_configured_endpoint_urls=True),
    )


def _config(**more: bool) -> Config:
    return Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"max_attempts": 5, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **more,
    )


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])
