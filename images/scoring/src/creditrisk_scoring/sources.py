"""Input files as streams of batches, whose memory does not depend on how large a file or a row group is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from creditrisk_scoring.errors import BulkError, CorruptError, UsageError
from creditrisk_scoring.folders import Folder
from creditrisk_scoring.projection import Projection
from creditrisk_scoring.scoring import BATCH_ROWS, PROBLEM
from scorer.applications.missing import CSV_MISSING
from scorer.contract import CategoricalFeature, Contract

SOURCE_FILE, SOURCE_ROW = "source_file", "source_row"
# What no column of the input may be called.
RESERVED = frozenset({
    SOURCE_FILE, SOURCE_ROW, PROBLEM, "probability_of_default", "score_points", "decision", "grade", "reasons",
})  # fmt: skip
_BUFFER_BYTES = 1 << 20
_DELIMITERS = (",", ";", "\t")
# By how a name ends, in any case.
FORMATS = {".parquet": "Parquet", ".csv": "CSV", ".arrow": "Arrow", ".feather": "Arrow"}
_ARROW_MAGIC = b"ARROW1"


def format_of(name: str) -> str | None:
    """Return what a file is by its name; None if it is no input."""
    return next((form for ending, form in FORMATS.items() if name.lower().endswith(ending)), None)


@dataclass(frozen=True)
class Source:
    """An open file.

    Attributes:
        name: Its path within the input folder.
        schema: Its columns.
        group_rows: How many rows each of its row groups has; None if the format has no row groups.
        reader: A ParquetFile of pyarrow; batches of any size if the format has no row groups.
        projection: How it becomes rows of the table that it is a file of; None if it is of none.
    """

    name: str
    schema: pa.Schema
    group_rows: Sequence[int] | None
    reader: Any
    projection: Projection | None = None

    def batches(
        self, row_groups: tuple[int, int] | None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some row groups, or of a file without any, at most `BATCH_ROWS` at a time.

        Args:
            row_groups: The first, and the one after the last; None for the whole file.
            columns: Those to read of a file with row groups; None for all.

        Raises:
            CorruptError: The file is corrupt.
            BulkError: The store did not give it.
        """
        try:
            if self.group_rows is None:
                yield from self._slices()
            else:
                yield from self._groups(range(*(row_groups or (0, len(self.group_rows)))), columns)
        except (pa.ArrowException, OSError) as error:
            raise CorruptError(f"{self.name} cannot be read: {_line(error)}") from error

    def _groups(self, groups: range, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        if self.projection is None:
            yield from self.reader.iter_batches(BATCH_ROWS, groups, columns=columns)
            return
        names, places = columns or self.schema.names, self.projection.places(self.reader.schema_arrow)
        stored = [places[name] for name in names if name in places]
        for batch in self.reader.iter_batches(BATCH_ROWS, groups, columns=stored):
            yield self.projection.apply(batch, names, places)

    def _slices(self) -> Iterator[pa.RecordBatch]:
        for batch in self.reader:
            for at in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(at, BATCH_ROWS)


class _Stored:
    """An open file of a store, whose own failures are told from those of what it holds: both are OSError to Arrow."""

    closed = False

    def __init__(self, file: pa.NativeFile, url: str) -> None:
        self._file, self._url = file, url

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._file.read(count))
        except OSError as error:
            raise BulkError(f"{self._url}: {error}") from error

    def seek(self, place: int, whence: int = 0) -> int:
        return int(self._file.seek(place, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def size(self) -> int:
        return int(self._file.size())

    def close(self) -> None:
        self.closed = True


@contextmanager
def open_source(
    folder: Folder, name: str, contract: Contract, projection: Projection | None = None
) -> Iterator[Source]:
    """Open a file of one of `FORMATS`.

    Args:
        folder: The input.
        name: The file's path in it.
        contract: Says which texts of a CSV mean missing.
        projection: How it becomes rows of the table that it is a file of, which then is of Parquet; None for no table.

    Raises:
        CorruptError: It is not what its name says.
        BulkError: The store did not give it.
    """
    with folder.open(name) as opened, pa.PythonFile(_Stored(opened, f"{folder.url}/{name}"), mode="r") as file:
        form = "Parquet" if projection is not None else format_of(name)
        try:
            if form == "CSV":
                source = _csv(file, name, contract)
            elif form == "Arrow":
                source = _arrow(file, name)
            else:
                source = _parquet(file, name, projection)
        except (pa.ArrowException, OSError) as error:
            raise CorruptError(f"{name} is not {form}: {_line(error)}") from error
        yield source


def _line(error: Exception) -> str:
    """Return what an error says, which Arrow may divide into lines."""
    return " ".join(str(error).split())


def _parquet(file: pa.NativeFile, name: str, projection: Projection | None) -> Source:
    # Without a buffer's size, whole columns of a row group are read at once.
    opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    metadata = opened.metadata
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    schema = opened.schema_arrow
    if projection is not None:
        try:
            projection.places(schema)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
        schema = projection.columns
    return Source(name, schema, rows, opened, projection)


def _csv(file: pa.NativeFile, name: str, contract: Contract) -> Source:
    """Open a CSV with a header line; all its columns are texts, as a type that is guessed depends on the first rows."""
    first = bytes(file.read(_BUFFER_BYTES)).partition(b"\n")[0]
    file.seek(0)
    names = {feature.name.encode() for feature in contract.features}
    header_names = {
        sign: {part.strip(b'"\r\xef\xbb\xbf') for part in first.split(sign.encode())} for sign in _DELIMITERS
    }
    delimiter = max(_DELIMITERS, key=lambda sign: len(names & header_names[sign]))
    parse = pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    header = pcsv.open_csv(pa.BufferReader(first + b"\n"), parse_options=parse).schema.names
    reader = pcsv.open_csv(
        file, pcsv.ReadOptions(block_size=_BUFFER_BYTES, use_threads=False), parse,
        pcsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
    )  # fmt: skip
    return Source(name, reader.schema, None, (_with_missing(batch, contract) for batch in reader))


def _arrow(file: pa.NativeFile, name: str) -> Source:
    """Open what Arrow calls its IPC file format, which is Feather, too, or its stream format."""
    whole = bytes(file.read(len(_ARROW_MAGIC))) == _ARROW_MAGIC
    file.seek(0)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if not whole:
        stream = pa.ipc.open_stream(file, options=options)
        return Source(name, stream.schema, None, map(_valid, stream))
    reader = pa.ipc.open_file(file, options=options)
    batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    return Source(name, reader.schema, None, map(_valid, batches))


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose values are those of its types: what is read as it lies there may be anything."""
    batch.validate(full=True)
    return batch


def _with_missing(batch: pa.RecordBatch, contract: Contract) -> pa.RecordBatch:
    """Return a batch of a CSV with null where a feature's text means missing; a category never does."""
    for feature in contract.features:
        if feature.name in batch.schema.names:
            words = feature.categories if isinstance(feature, CategoricalFeature) else ()
            column = batch.column(feature.name)
            missing = pc.is_in(column, pa.array(sorted(CSV_MISSING.difference(words)), pa.string()))
            known = pc.if_else(missing, pa.scalar(None, pa.string()), column)
            batch = batch.set_column(batch.schema.get_field_index(feature.name), feature.name, known)
    return batch


def numbered(batches: Iterator[pa.RecordBatch], first_row: int) -> Iterator[pa.RecordBatch]:
    """Yield batches with the column `source_row`, each row's number in its file."""
    for batch in batches:
        rows = pa.array(np.arange(first_row, first_row + batch.num_rows))
        yield batch.append_column(SOURCE_ROW, rows)
        first_row += batch.num_rows
