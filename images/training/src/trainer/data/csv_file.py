"""Read the declared columns of a CSV file, and find the rows and bytes that keep it from being read."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.csv

from trainer.data.cells import MISSING
from trainer.data.layout import Layout
from trainer.data.problems import InvalidDataError, problem_of

BEGINNING_BYTES = 1 << 20
TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class CsvFile:
    """A CSV file on disk, plain or gzipped."""

    path: Path
    gzipped: bool

    def open(self) -> BinaryIO:
        """Open the file for reading uncompressed bytes."""
        if self.gzipped:
            return cast("BinaryIO", pa.input_stream(str(self.path), compression="gzip"))
        return self.path.open("rb")

    def beginning(self) -> tuple[bytes, bool]:
        """Return the first bytes, and whether they are the whole file."""
        with self.open() as file:
            found = file.read(BEGINNING_BYTES)
            return found, not file.read(1)


class OtherEncodingError(ValueError):
    """A file that was taken for UTF-8 is not; the message says where, and what it may be."""


class _QuoteCounter(io.RawIOBase):
    """A file that counts the quotes passing by: an odd number means that one was never closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.quotes = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.quotes += chunk.count(b'"')
        return chunk

    def readable(self) -> bool:
        return True


def read_csv(
    file: CsvFile, layout: Layout, types: Mapping[str, pa.DataType | None], *, decimal: str, source: str
) -> pa.Table:
    """Read some columns.

    Args:
        file: The file.
        layout: How it is written.
        types: The columns to read with their types, None for a type by content. If a column declared as float64 has
            anything else, all such columns are returned as text.
        decimal: The decimal separator.
        source: Where the file came from, for messages.

    Raises:
        InvalidDataError: Rows are longer or shorter than the header.
        UnicodeDecodeError: A column to read is not in the layout's encoding.
        ValueError: The file is not CSV.
    """
    if not layout.first_rows:
        return pa.table({name: pa.array([], kind or pa.string()) for name, kind in types.items()})
    try:
        return _read(file, layout, types, decimal=decimal)
    except pa.ArrowInvalid as error:
        _explain(file, layout, source)
        if "conversion error to double" not in str(error):
            raise ValueError(str(error)) from error
    as_text = {name: TEXT if kind == pa.float64() else kind for name, kind in types.items()}
    return _read(file, layout, as_text, decimal=decimal)


def _read(file: CsvFile, layout: Layout, types: Mapping[str, pa.DataType | None], *, decimal: str) -> pa.Table:
    # Without quotes no value holds a line break, which saves a sixth of the time. Whether the rest of the file has any
    # is known once it was read.
    quotes = b'"' in file.beginning()[0]
    table, counted = _parse(file, layout, types, decimal=decimal, quotes=quotes)
    if counted and not quotes:
        table, _ = _parse(file, layout, types, decimal=decimal, quotes=True)
    if counted % 2:
        _refuse_open_quote(file, layout)
    return table


def _parse(
    file: CsvFile, layout: Layout, types: Mapping[str, pa.DataType | None], *, decimal: str, quotes: bool
) -> tuple[pa.Table, int]:
    """Return the columns and the number of quotes in the file, which voids the columns if `quotes` is false."""
    with file.open() as raw:
        counter = _QuoteCounter(raw)
        try:
            table = pa.csv.read_csv(
                pa.PythonFile(counter, mode="r"),
                read_options=pa.csv.ReadOptions(
                    column_names=list(layout.names), skip_rows=layout.skipped_lines, encoding=layout.encoding
                ),
                parse_options=pa.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=quotes),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=list(types),
                    column_types={name: kind for name, kind in types.items() if kind is not None},
                    null_values=list(MISSING),
                    decimal_point=decimal,
                ),
            )
        except pa.ArrowInvalid:
            if quotes or not counter.quotes:
                raise
            table = None
    return table, counter.quotes


def _text(file: CsvFile, layout: Layout) -> io.TextIOWrapper:
    encoding = "utf-8-sig" if layout.encoding == "utf-8" else layout.encoding
    return io.TextIOWrapper(file.open(), encoding, errors="replace", newline="")


def _explain(file: CsvFile, layout: Layout, source: str) -> None:
    """Raise what a person can act on: bytes of another encoding by their line, or ragged rows by their numbers."""
    if layout.encoding == "utf-8":
        _refuse_other_bytes(file)
    with file.open() as raw:
        counter = _QuoteCounter(raw)
        while counter.read(BEGINNING_BYTES):
            pass
    if counter.quotes % 2:
        _refuse_open_quote(file, layout)
    ragged: dict[int, str] = {}
    rows = 0
    with _text(file, layout) as text:
        reader = csv.reader(text, delimiter=layout.delimiter)
        lines_before = 0
        for row in reader:
            in_header, lines_before = lines_before < layout.skipped_lines, reader.line_num
            if in_header or not row:
                continue
            if len(row) != len(layout.names):
                ragged[rows] = f"{len(row)} field{'s' if len(row) > 1 else ''}"
            rows += 1
    if ragged:
        message = f"the header has {len(layout.names)} columns, but rows have more or fewer fields"
        hint = "a field that contains the delimiter or a line break must be quoted"
        if len(ragged) == rows and {*ragged.values()} == {f"{len(layout.names) + 1} fields"}:
            hint = "if the first field is a row number, begin the header with the delimiter"
        texts = list(dict.fromkeys(ragged.values()))
        problem = problem_of(None, message, len(ragged), list(ragged), texts, hint=hint)
        raise InvalidDataError(source, rows, (problem,))


def _refuse_other_bytes(file: CsvFile) -> None:
    with io.BufferedReader(cast("io.RawIOBase", file.open())) as raw:
        for number, line in enumerate(raw, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise OtherEncodingError(
                    f"not UTF-8: byte 0x{byte:02X} in line {number}; if it is Latin-1, as western programs on Windows "
                    'write it, declare "file": {"encoding": "cp1252"} in the feature declaration'
                ) from error


def _refuse_open_quote(file: CsvFile, layout: Layout) -> None:
    """Refuse a file whose last quote is not closed, because everything after it would be one value."""
    before = 0
    try:
        with _text(file, layout) as text:
            reader = csv.reader(text, delimiter=layout.delimiter, strict=True)
            for _ in reader:
                before = reader.line_num
    except csv.Error as error:
        raise ValueError(f"the row that begins in line {before + 1}: {error}") from error
