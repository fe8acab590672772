"""Parquet files that are read part by part: one, or all that match a pattern."""

import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data import sources
from trainer.data.file_kinds import PARQUET
from trainer.errors import BadInputError

# Rows that are read and validated at once.
PART_ROWS = 32_768
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ParquetFiles:
    """One or more Parquet files with the same declared columns.

    Attributes:
        source: The path, URL or pattern, for people.
        files: Paths or `s3://` URLs, in the order in which their rows count.
        scratch: Folder for the file that is being read, if it has to be downloaded.
        limit: Bytes that the scratch folder's parent may hold, if that is less than what the volume has.
    """

    source: str
    files: tuple[str, ...]
    scratch: Path
    limit: int | None = None

    def header(self) -> list[str]:
        """Return the names of the first file's columns."""
        with sources.on_disk(self.files[0], self.scratch, self.limit) as path:
            _require_parquet(path, self.files[0])
            return list(pq.read_schema(path).names)

    def rows(self) -> int | None:
        """Return the number of rows of all files, or None if they would have to be downloaded first.

        Raises:
            BadInputError: A file is not Parquet.
        """
        if any(sources.is_remote(name) for name in self.files):
            return None
        for name in self.files:
            _require_parquet(Path(name), name)
        return sum(int(pq.read_metadata(name).num_rows) for name in self.files)

    def parts(self, columns: Sequence[str], digest: "hashlib._Hash | None" = None) -> Iterator[tuple[str, pa.Table]]:
        """Read columns, a row group at a time and in parts of it.

        Args:
            columns: Their names.
            digest: Takes the bytes of all files, in their order.

        Returns:
            Each part and the file that it is from.

        Raises:
            BadInputError: A file is not Parquet, or lacks one of the columns.
        """
        for name in self.files:
            with sources.on_disk(name, self.scratch, self.limit) as path:
                _require_parquet(path, name)
                if digest is not None:
                    with path.open("rb") as opened:
                        add_bytes(digest, opened)
                with open_columns(path, columns) as file:
                    if absent := [column for column in columns if column not in file.schema_arrow.names]:
                        raise BadInputError(f"{name}: lacks columns of {self.files[0]}: {', '.join(absent)}")
                    for batch in file.iter_batches(PART_ROWS, columns=list(columns)):
                        yield name, pa.Table.from_batches([batch])


def find_files(pattern: str, scratch: Path, limit: int | None = None) -> ParquetFiles | None:
    """Return the files of a pattern such as `loans/*.parquet` or `s3://bucket/loans/*.parquet`, or None if it is none.

    A pattern has `*`, `?` or `[...]` in it, which match within a folder. Files count in the order of their names.

    Raises:
        BadInputError: No file matches, or the bucket cannot be listed.
    """
    if not glob.has_magic(pattern) or Path(pattern).exists():
        return None
    if pattern.startswith("s3://"):
        found = sources.matching_objects(pattern)
    elif sources.is_remote(pattern):
        return None
    else:
        # pathlib has no function that takes an absolute pattern.
        found = sorted(path for path in glob.glob(pattern) if Path(path).is_file())  # noqa: PTH207
    if not found:
        raise BadInputError(f"{pattern}: no file matches; * stands for any part of a name, but not for folders")
    return ParquetFiles(pattern, tuple(found), scratch, limit)


def open_columns(path: Path, columns: Sequence[str]) -> pq.ParquetFile:
    """Open a file so that columns of text come as dictionaries."""
    schema = pq.read_schema(path)
    words = [name for name in columns if name in schema.names and pa.types.is_string(schema.field(name).type)]
    # By default it holds all of the file's bytes from the first batch to the last.
    return pq.ParquetFile(path, read_dictionary=words, pre_buffer=False, buffer_size=_CHUNK_BYTES)


def add_bytes(digest: "hashlib._Hash", file: IO[bytes]) -> None:
    """Add the rest of a file to a digest."""
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)


def _require_parquet(path: Path, name: str) -> None:
    with path.open("rb") as file:
        if file.read(len(PARQUET)) != PARQUET:
            raise BadInputError(f"{name}: not a Parquet file; of several files, only Parquet is read")
