"""The way in which data is read: whole into memory, or part by part into files, if it is too large for that."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from trainer.data import sources
from trainer.data.declaration import FeatureDeclaration
from trainer.data.file_kinds import PARQUET
from trainer.data.parquet_files import ParquetFiles, find_files
from trainer.data.reading import RawTable, read_file, readable
from trainer.data.storage import Memory, Scratch, Storage
from trainer.data.streaming import read_validated
from trainer.data.validation import validate


@dataclass(frozen=True)
class Limits:
    """What data must be like, and what may be done with it.

    Attributes:
        minimum_rows: Refuse data with fewer rows.
        streamed_values: Read Parquet with more values than this part by part: rows times declared columns.
        scratch_bytes: How much the parent of the scratch folders may hold; None for what its volume has.
    """

    minimum_rows: int
    streamed_values: int
    scratch_bytes: int | None = None


@dataclass(frozen=True)
class Loaded:
    """Validated data.

    Attributes:
        table: As read.
        frame: As `validation.validate` returns it.
        storage: Where its parts, too, are to be.
    """

    table: RawTable
    frame: pd.DataFrame
    storage: Storage


def load(source: str, declaration: FeatureDeclaration, limits: Limits, *, scratch: Path, parent: Path) -> Loaded:
    """Read and validate a file, or the Parquet files that match a pattern.

    A pattern is always read part by part, and so is a Parquet file with many values. Both ways give the same rows, and
    the same errors.

    Args:
        source: A path, `s3://bucket/key`, an http(s) URL, or a pattern (see `find_files`).
        declaration: The columns to read.
        limits: When to read it part by part.
        scratch: Folder for the downloaded file, which is deleted after reading.
        parent: Where to create the folder of rows that do not go into memory.

    Raises:
        BadInputError: The data cannot be read, or the scratch volume is too small.
        InvalidDataError: The data does not match the declaration.
    """
    if files := find_files(source, scratch, limits.scratch_bytes):
        return _streamed(files, declaration, limits, parent)
    with sources.on_disk(source, scratch, limits.scratch_bytes) as path:
        with readable(source):
            large = _values(path, declaration) > limits.streamed_values
        if large:
            return _streamed(ParquetFiles(source, (str(path),), scratch), declaration, limits, parent)
        with readable(source):
            table = read_file(path, source, declaration)
    return Loaded(table, validate(table, declaration, minimum_rows=limits.minimum_rows), Memory())


def _streamed(files: ParquetFiles, declaration: FeatureDeclaration, limits: Limits, parent: Path) -> Loaded:
    storage = Scratch(parent, limit=limits.scratch_bytes)
    table, frame = read_validated(files, declaration, storage, minimum_rows=limits.minimum_rows)
    return Loaded(table, frame, storage)


def _values(path: Path, declaration: FeatureDeclaration) -> int:
    """Return rows times declared columns of a Parquet file, 0 for any other file."""
    with path.open("rb") as file:
        if file.read(len(PARQUET)) != PARQUET:
            return 0
    metadata = pq.read_metadata(path)
    return int(metadata.num_rows) * len({*declaration.columns}.intersection(metadata.schema.names))
