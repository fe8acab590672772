"""Download training data from S3 or a web server."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from trainer.data.storage import lacking, room, too_small
from trainer.errors import BadInputError

_CHUNK_BYTES = 1 << 20
_RETRIES = 5


def is_remote(source: str) -> bool:
    """Return whether a source is an `s3://`, `http://` or `https://` URL.

    Raises:
        BadInputError: It looks like a URL, but is none.
    """
    try:
        return urlsplit(source).scheme in {"s3", "http", "https"}
    except ValueError as error:
        raise BadInputError(f"{source}: {error}") from error


@contextmanager
def on_disk(source: str, scratch: Path, limit: int | None = None) -> Iterator[Path]:
    """Provide the file of a path or URL; a downloaded one is deleted afterwards.

    Args:
        source: The path or URL.
        scratch: Where to download to, a folder on the scratch volume.
        limit: Bytes that the folder's parent may hold, if that is less than what the volume has. Kubernetes ends a pod
            that writes more, without a word in its log.

    Raises:
        BadInputError: It cannot be downloaded, or is too large.
    """
    if not is_remote(source):
        yield Path(source)
        return
    downloaded = scratch / "downloaded-data"
    try:
        download(source, downloaded, limit)
        yield downloaded
    finally:
        downloaded.unlink(missing_ok=True)


def matching_objects(pattern: str) -> list[str]:
    """Return the URLs of the objects that match `s3://bucket/pattern`, in the order of their names.

    Raises:
        BadInputError: The bucket cannot be listed.
    """
    address = re.fullmatch(r"s3://([^/]+)/(.*)", pattern)
    if address is None:
        raise BadInputError(f"{pattern}: must be s3://bucket/pattern")
    bucket, wanted = address[1], PurePosixPath(address[2])
    prefix = re.split(r"[*?[]", address[2], maxsplit=1)[0]
    try:
        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [str(found["Key"]) for page in pages for found in page.get("Contents", ())]
    except (BotoCoreError, ClientError) as error:
        raise BadInputError(f"{pattern}: {error}") from error
    matching = [key for key in keys if len(PurePosixPath(key).parts) == len(wanted.parts)
                and PurePosixPath(key).match(str(wanted))]  # fmt: skip
    return [f"s3://{bucket}/{key}" for key in sorted(matching)]


def download(source: str, target: Path, limit: int | None = None) -> None:
    """Download an `s3://bucket/key` or http(s) URL into a file on the scratch volume (see `on_disk`).

    Raises:
        BadInputError: It cannot be downloaded, or is too large.
    """
    fetch = _download_s3 if urlsplit(source).scheme == "s3" else _download_http
    try:
        fetch(source, target, limit)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise too_small(target.parent.parent, source, str(error)) from error


def _require_room(source: str, size: int, target: Path, limit: int | None) -> int:
    """Return how many bytes can be written, if they are as many as are needed."""
    volume = target.parent.parent
    available = room(volume, limit)
    if problem := lacking(size, available):
        raise too_small(volume, source, problem)
    return available


def _download_s3(source: str, target: Path, limit: int | None) -> None:
    address = urlsplit(source)
    bucket, key = address.netloc, address.path.lstrip("/")
    try:
        client = boto3.client("s3")
        _require_room(source, client.head_object(Bucket=bucket, Key=key)["ContentLength"], target, limit)
        client.download_file(bucket, key, str(target))
    except (BotoCoreError, ClientError) as error:
        raise BadInputError(f"{source}: {error}") from error


def _download_http(source: str, target: Path, limit: int | None) -> None:
    retries = urllib3.Retry(total=_RETRIES, backoff_factor=0.5, status_forcelist=[502, 503, 504])
    pool = urllib3.PoolManager(retries=retries, timeout=urllib3.Timeout(connect=10, read=60))
    try:
        response = pool.request("GET", source, preload_content=False)
        if response.status != 200:
            raise BadInputError(f"{source}: the server responded with HTTP {response.status}")
        available = _require_room(source, response.length_remaining or 0, target, limit)
        # Servers need not say how much they send, and what they compressed grows.
        with target.open("wb") as file:
            for chunk in response.stream(_CHUNK_BYTES):
                if file.tell() + len(chunk) > available:
                    raise too_small(target.parent.parent, source, "it is larger than the room that is left")
                file.write(chunk)
    except urllib3.exceptions.HTTPError as error:
        raise BadInputError(f"{source}: {error}") from error
