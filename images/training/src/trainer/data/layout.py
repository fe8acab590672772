"""Tell from a CSV file's beginning how it is written: encoding, delimiter, and the columns' names."""

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from trainer.data.file_format import FileFormat

# In the order of preference, should two of them fit as well.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BYTES_LOOKED_AT = 10_000
_ROWS_LOOKED_AT = 50
_NAMES_SHOWN = 8
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?", re.ASCII)


@dataclass(frozen=True)
class Layout:
    """How a CSV file is written.

    Attributes:
        encoding: Name of a Python codec.
        delimiter: What separates fields.
        names: The columns' names in order; "" for those without a name.
        skipped_lines: Lines before the first row.
        first_rows: The first rows, as text.
    """

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    skipped_lines: int
    first_rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        shown = ", ".join(self.names[:_NAMES_SHOWN]) + (", ..." if len(self.names) > _NAMES_SHOWN else "")
        delimiter = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        return f"{len(self.names)} columns separated by {delimiter}: {shown[:200]}"


def detect_layout(beginning: bytes, file: FileFormat, wanted: Collection[str], *, whole: bool) -> Layout:
    """Return the layout that fits best.

    Args:
        beginning: The file's first bytes, uncompressed.
        file: What is declared and therefore not guessed.
        wanted: Names of columns to look for in the header; empty to choose the delimiter by the number of fields alone.
        whole: Whether `beginning` is the whole file.

    Raises:
        ValueError: There is no row, the header has a name twice, or the bytes are not text in the declared encoding.
    """
    encoding = file.encoding or ("utf-16" if beginning.startswith(_UTF_16) else "utf-8")
    if encoding == "utf-8" and b"\0" in beginning:
        raise ValueError(
            'it has NUL bytes; if it is UTF-16, declare "file": {"encoding": "utf-16-le"} (or "utf-16-be")'
        )
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)(
        # A wrong byte is reported with its line later, and only if it is in a column that is read.
        errors="replace" if encoding == "utf-8" else "strict"
    )
    text = decoder.decode(beginning, final=whole).removeprefix("\ufeff")
    if not text.strip():
        raise ValueError("the file is empty")
    candidates = [
        _with_delimiter(text, delimiter, encoding, file, whole=whole)
        for delimiter in ([file.delimiter] if file.delimiter else DELIMITERS)
    ]
    best = max(candidates, key=lambda layout: _fit(layout, file, wanted))
    # A row of data that is mistaken for the header may have a value twice; whoever needs the header says so.
    repeated = sorted({name for name in best.names if name and best.names.count(name) > 1})
    if repeated and not looks_like_data(best.names):
        raise ValueError(f"duplicate column: {', '.join(repeated)}")
    return best


def utf_16_without_mark(beginning: bytes) -> str:
    """Return which UTF-16 bytes without a byte order mark are, by where its NULs are; "" for none."""
    if beginning.startswith(_UTF_16):
        return ""
    first, second = (beginning[start:_BYTES_LOOKED_AT:2].count(0) for start in (0, 1))
    if first == second:
        return ""
    return "utf-16-be" if first > second else "utf-16-le"


def _with_delimiter(text: str, delimiter: str, encoding: str, file: FileFormat, *, whole: bool) -> Layout:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    # Each row with the number of lines up to its end. The last row may have been cut off.
    rows: list[tuple[tuple[str, ...], int]] = []
    # A field may be longer than 131,072 characters: some other delimiter will do, or reading says what is wrong.
    with contextlib.suppress(csv.Error):
        filled = (row for row in reader if any(field.strip() for field in row))
        rows.extend((tuple(row), reader.line_num) for row in itertools.islice(filled, _ROWS_LOOKED_AT + 1))
    if not whole and len(rows) <= _ROWS_LOOKED_AT:
        rows = rows[:-1] or rows
    rows = rows or [((text,), 1)]
    if file.columns:
        first = tuple(row for row, _ in rows[:_ROWS_LOOKED_AT])
        # Blank lines before the first row are skipped by the reader itself.
        return Layout(encoding, delimiter, file.columns, 0, first)
    (header, lines), *below = rows
    first = tuple(row for row, _ in below)
    names = tuple(name.strip() for name in header) if file.trim else header
    return Layout(encoding, delimiter, _with_nameless(names, first), lines, first)


def _with_nameless(names: tuple[str, ...], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Add the column that every row has, and the header has not, if rows end with a delimiter."""
    longer = rows and all(len(row) == len(names) + 1 and not row[-1] for row in rows)
    return (*names, "") if longer else names


def _fit(layout: Layout, file: FileFormat, wanted: Collection[str]) -> tuple[int, int]:
    """Return how well a layout fits: columns found, or rows as long as the declared columns; then fields in all."""
    width = len(layout.first_rows[0]) if file.columns and layout.first_rows else len(layout.names)
    even = sum(len(row) == width for row in layout.first_rows)
    if file.columns:
        return sum(len(row) == len(file.columns) for row in layout.first_rows), width
    found = len({*wanted}.intersection(layout.names))
    return found, width if even == len(layout.first_rows) else 1


def looks_like_data(names: Sequence[str]) -> bool:
    """Return whether a supposed header is a row of data: it holds numbers."""
    return any(_NUMBER.fullmatch(name.strip()) for name in names)


def near_name(name: str, names: Collection[str]) -> str | None:
    """Return the name that is most probably meant by another one, or None."""
    simple = {_simplified(candidate): candidate for candidate in reversed([*names]) if candidate}
    close = get_close_matches(_simplified(name), simple, n=1, cutoff=0.8)
    return simple[close[0]] if close else None


def _simplified(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
