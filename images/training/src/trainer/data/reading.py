"""Fetch training data from a file, URL or S3 and read the declared columns of a CSV or Parquet file."""

import csv
import gzip
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from trainer.data.declaration import FeatureDeclaration
from trainer.data.synthetic import generate
from trainer.errors import BadInputError

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_RETRIES = 5


@dataclass(frozen=True)
class RawTable:
    """Data as read, before validation.

    Attributes:
        frame: The declared columns that the data has; a column with any non-numeric value is kept as text.
        undeclared: Columns of the data that the declaration does not use.
        source: Where the data came from, for people.
        sha256: Digest of the bytes that were read (of the generated table for `synthetic`).
    """

    frame: pd.DataFrame
    undeclared: tuple[str, ...]
    source: str
    sha256: str


def read_table(
    source: str, declaration: FeatureDeclaration, *, scratch: Path, synthetic_rows: int, seed: int
) -> RawTable:
    """Read a CSV (plain or gzipped) or Parquet file, or generate the built-in sample.

    Args:
        source: A path, `s3://bucket/key`, an http(s) URL, or `synthetic`.
        declaration: The columns to read.
        scratch: Folder for the downloaded file, which is deleted after reading.
        synthetic_rows: Rows of the built-in sample.
        seed: Seed of the built-in sample.

    Raises:
        BadInputError: `source` cannot be read, or is neither CSV nor Parquet.
    """
    if source == "synthetic":
        frame = generate(synthetic_rows, seed)
        digest = hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy().tobytes()).hexdigest()
        return _select(frame, declaration, source=f"synthetic ({synthetic_rows} rows, seed {seed})", sha256=digest)
    scheme = urlsplit(source).scheme
    if scheme not in {"s3", "http", "https"}:
        return _read_file(Path(source), source, declaration)
    downloaded = scratch / "downloaded-data"
    try:
        if scheme == "s3":
            _download_s3(source, downloaded)
        else:
            _download_http(source, downloaded)
        return _read_file(downloaded, source, declaration)
    finally:
        downloaded.unlink(missing_ok=True)


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


def _read_file(path: Path, source: str, declaration: FeatureDeclaration) -> RawTable:
    wanted = _wanted(declaration)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            digest = _sha256(file, magic)
        if magic == b"PAR1":
            header = pq.read_schema(path).names
            frame = pd.read_parquet(path, columns=[name for name in wanted if name in header])
        else:
            header = _csv_header(path, compressed=magic[:2] == b"\x1f\x8b")
            frame = pd.read_csv(
                path,
                usecols=[name for name in wanted if name in header],
                dtype=dict.fromkeys((feature.name for feature in declaration.categorical), "category"),
                compression="gzip" if magic[:2] == b"\x1f\x8b" else None,
                keep_default_na=False,
                na_values=[""],
                low_memory=False,
            )
    except OSError as error:
        raise BadInputError(f"{source}: {error.strerror or error}") from error
    except (pa.ArrowException, UnicodeDecodeError, ValueError, EOFError) as error:
        raise BadInputError(f"{source}: neither a CSV (plain or gzipped) nor a Parquet file: {error}") from error
    undeclared = tuple(name for name in header if name not in wanted)
    return _logged(RawTable(frame, undeclared, source, digest))


def _csv_header(path: Path, *, compressed: bool) -> list[str]:
    with (
        cast("IO[str]", gzip.open(path, "rt", encoding="utf-8", newline=""))
        if compressed
        else path.open(encoding="utf-8", newline="")
    ) as file:
        header = next(csv.reader(file), [])
    if not header:
        raise ValueError("the file is empty")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"duplicate column: {', '.join(repeated)}")
    return [name.removeprefix("\ufeff") for name in header]


def _sha256(file: IO[bytes], head: bytes) -> str:
    digest = hashlib.sha256(head)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _wanted(declaration: FeatureDeclaration) -> list[str]:
    identifiers = [declaration.id_column] if declaration.id_column else []
    return [*identifiers, *declaration.names, declaration.target.column]


def _select(frame: pd.DataFrame, declaration: FeatureDeclaration, *, source: str, sha256: str) -> RawTable:
    wanted = [name for name in _wanted(declaration) if name in frame.columns]
    undeclared = tuple(str(name) for name in frame.columns if name not in wanted)
    return _logged(RawTable(frame[wanted], undeclared, source, sha256))


def _logged(table: RawTable) -> RawTable:
    if table.undeclared:
        logger.info("%s: skipping undeclared columns: %s", table.source, ", ".join(table.undeclared))
    return table
