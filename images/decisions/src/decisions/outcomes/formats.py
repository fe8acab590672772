"""Files of outcomes as rows: JSON, NDJSON, CSV, and Parquet, read in pieces where their form allows it."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

from decisions.errors import UsageError
from decisions.outcomes.rows import FIELDS, RawRow

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES = (JSON, NDJSON, CSV, PARQUET)
BY_SUFFIX = {".json": JSON, ".ndjson": NDJSON, ".jsonl": NDJSON, ".csv": CSV, ".parquet": PARQUET}
MAX_LINE_BYTES = 65536
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_NAMES_SHOWN = 5


def read_rows(file: IO[bytes], media_type: str) -> Iterator[RawRow]:
    """Yield the rows of a file that is not Parquet.

    Raises:
        UsageError: The file as a whole is not what its media type says.
    """
    if media_type == CSV:
        return _csv_rows(file)
    if media_type == NDJSON:
        return _line_rows(file)
    return _json_rows(file.read())


def _json_rows(body: bytes) -> Iterator[RawRow]:
    try:
        rows = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise UsageError("the body must be an array of outcomes")
    return (_object_row(number, row) for number, row in enumerate(rows, 1))


def _line_rows(file: IO[bytes]) -> Iterator[RawRow]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise UsageError(f"line {number + 1} is longer than {MAX_LINE_BYTES} bytes")
        if not line.strip():
            continue
        number += 1
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            yield RawRow(number, {}, f"the line is not JSON: {error}")
        else:
            yield _object_row(number, row)


def _object_row(number: int, row: Any) -> RawRow:  # noqa: ANN401 - any JSON
    return RawRow(number, row) if isinstance(row, dict) else RawRow(number, {}, "the row is not an object")


def _csv_rows(file: IO[bytes]) -> Iterator[RawRow]:
    """Yield the rows under a header; the delimiter is the one that finds the most fields in it."""
    lines = _text_lines(file)
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda delimiter: len(set(FIELDS).intersection(_header(first, delimiter))))
    header = _header(first, delimiter)
    if not set(FIELDS).intersection(header):
        found = ", ".join(header[:_NAMES_SHOWN])[:200] or "nothing"
        raise UsageError(f"the first line must be the header, with some of {', '.join(FIELDS)}; it has {found}")
    if repeated := [name for name in header if header.count(name) > 1]:
        raise UsageError(f"the header has the column {repeated[0]!r} twice")
    return _rows_under(header, csv.reader(lines, delimiter=delimiter, strict=True))


def _rows_under(header: list[str], rows: Iterable[list[str]]) -> Iterator[RawRow]:
    try:
        for number, row in enumerate(filter(None, rows), 1):
            if len(row) == len(header):
                yield RawRow(number, {name: value for name, value in zip(header, row, strict=True) if name})
            else:
                yield RawRow(number, {}, f"the row has {len(row)} values; allowed: {len(header)}, as the header")
    except csv.Error as error:
        raise UsageError(f"the body is not CSV: {error}") from error


def _header(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def _text_lines(file: IO[bytes]) -> Iterator[str]:
    start = file.read(2)
    if start in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        raise UsageError("the body is not CSV in UTF-8: it is UTF-16")
    # utf-8-sig skips a byte order mark. Line ends stay, because they may be within quotation marks.
    text = io.TextIOWrapper(io.BufferedReader(_Rejoined(start, file)), "utf-8-sig", newline="")
    try:
        while line := text.readline(MAX_LINE_BYTES + 1):
            if len(line) > MAX_LINE_BYTES:
                raise UsageError(f"a line is longer than {MAX_LINE_BYTES} characters")
            yield line
    except UnicodeDecodeError as error:
        raise UsageError(f"the body is not CSV in UTF-8: {error}") from error


class _Rejoined(io.RawIOBase):
    """A file whose first bytes were read already."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a buffer
        piece = self._start or self._rest.read(len(buffer))
        self._start = b""
        buffer[: len(piece)] = piece
        return len(piece)
