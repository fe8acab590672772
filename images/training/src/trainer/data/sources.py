"""Download training data from S3 or a web server."""

from pathlib import Path
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore.exceptions import BotoCoreError, ClientError

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


def download(source: str, target: Path) -> None:
    """Download an `s3://bucket/key` or http(s) URL into a file.

    Raises:
        BadInputError: It cannot be downloaded.
    """
    if urlsplit(source).scheme == "s3":
        _download_s3(source, target)
    else:
        _download_http(source, target)


def _download_s3(source: str, target: Path) -> None:
    address = urlsplit(source)
    try:
        boto3.client("s3").download_file(address.netloc, address.path.lstrip("/"), str(target))
    except (BotoCoreError, ClientError) as error:
        raise BadInputError(f"{source}: {error}") from error


def _download_http(source: str, target: Path) -> None:
    retries = urllib3.Retry(total=_RETRIES, backoff_factor=0.5, status_forcelist=[502, 503, 504])
    pool = urllib3.PoolManager(retries=retries, timeout=urllib3.Timeout(connect=10, read=60))
    try:
        response = pool.request("GET", source, preload_content=False)
        if response.status != 200:
            raise BadInputError(f"{source}: the server responded with HTTP {response.status}")
        with target.open("wb") as file:
            for chunk in response.stream(_CHUNK_BYTES):
                file.write(chunk)
    except urllib3.exceptions.HTTPError as error:
        raise BadInputError(f"{source}: {error}") from error
