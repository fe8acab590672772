"""Create a file only if it does not exist: what several processes of a run agree by, without a database."""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from pyarrow import fs

from creditrisk_scoring.errors import BulkError
from creditrisk_scoring.folders import STAGING, Folder, S3Store, s3_store

# What S3 answers to If-None-Match if the object exists, or if another one is being written at that moment.
_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


def create(folder: Folder, name: str, content: bytes) -> bool:
    """Write a small file, whole or not at all, unless it exists.

    Returns:
        Whether this call has written it. Of several at the same time, one has.

    Raises:
        BulkError: The folder cannot be used.
    """
    try:
        if isinstance(folder.filesystem, fs.LocalFileSystem):
            return _link(folder, name, content)
        return _put(folder.path(name), content)
    except OSError as error:
        raise BulkError(f"{folder.url}/{name}: {error}") from error


def _link(folder: Folder, name: str, content: bytes) -> bool:
    aside, target = Path(folder.path(f"{STAGING}/{uuid.uuid4().hex}")), Path(folder.path(name))
    for parent in (aside.parent, target.parent):
        parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(content)
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except FileNotFoundError:
        # Who finds all shards done deletes what others are still writing.
        return _link(folder, name, content)
    finally:
        aside.unlink(missing_ok=True)
    return True


def _put(path: str, content: bytes) -> bool:
    # Arrow's S3 has no conditions.
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    bucket, _, key = path.partition("/")
    try:
        _client(s3_store()).put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _EXISTS:
            return False
        raise OSError(str(error)) from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error
    return True


@cache
def _client(store: S3Store) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    # Not every S3 server knows the checksums that recent SDKs send by default.
    config = Config(request_checksum_calculation="when_required", retries={"mode": "standard", "max_attempts": 5})
    # A session of its own: the default one keeps the credentials that it found first.
    return boto3.Session().client(
        "s3", endpoint_url=store.endpoint, region_name=store.region, verify=store.ca_bundle, config=config
    )
