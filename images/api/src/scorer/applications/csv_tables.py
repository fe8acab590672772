"""CSV to columns, as spreadsheets and other programs write it."""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterator, Sequence

from scorer.applications.features import allowed_values
from scorer.applications.json_bodies import check_value_count
from scorer.applications.missing import with_missing
from scorer.applications.rows import Column
from scorer.applications.tables import refuse_duplicate_columns
from scorer.contract import Contract
from scorer.problems import FieldProblem, Problem

# In the order of preference, should two of them find as many of the model's fields in the header.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_ROWS_SHOWN = 20
_NAMES_SHOWN = 5
_LOOKED_AT = 1_000


def csv_columns(body: bytes, contract: Contract) -> dict[str, Column]:
    """Return the values by column: numbers if they are written as in JSON, null or unset where they are missing.

    The delimiter is a comma, a semicolon or a tab, whichever finds the most of the contract's features in the header.
    A byte order mark and blank lines are skipped, and so are columns without a name, such as the index that pandas
    writes.

    Raises:
        Problem: 400 if the body is not CSV in UTF-8; 413 for too many values; 422 if a row is longer or shorter than
            the header, a column appears twice, or the header has none of the features.
    """
    check_value_count(body, b",;\t\r\n")
    text = _decoded(body)
    delimiter = max(_DELIMITERS, key=lambda delimiter: len(_known(_header(text, delimiter), contract)))
    try:
        header, *rows = list(_rows(text, delimiter)) or [[]]
    except csv.Error as error:
        raise Problem(400, f"the body is not CSV in UTF-8: {error}") from error
    if not _known(header, contract):
        raise _without_fields(header, delimiter, contract)
    refuse_duplicate_columns([name for name in header if name])
    _refuse_ragged(header, rows)
    columns: dict[str, Column] = {name: [row[at] for row in rows] for at, name in enumerate(header) if name}
    for feature in contract.numeric:
        if feature.name in columns:
            columns[feature.name] = [_number(value) for value in columns[feature.name]]
    return with_missing(columns, contract)


def _decoded(body: bytes) -> str:
    # Without a byte order mark, UTF-16 is UTF-8 in which every other character is NUL.
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00" in body[:_LOOKED_AT]:
        raise Problem(400, "the body is not CSV in UTF-8: it is UTF-16, or no text; send it as UTF-8")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong, line = body[error.start], 1 + body.count(b"\n", 0, error.start)
        raise Problem(
            400,
            f"the body is not CSV in UTF-8: byte 0x{wrong:02X} in line {line}; if it is Latin-1 or Windows-1252, send "
            "it as UTF-8",
        ) from error


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    # csv returns an empty list for a blank line. Without translation, a line may also end with CR alone.
    return filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(_rows(text, delimiter), [])
    except csv.Error:
        return []


def _known(header: Sequence[str], contract: Contract) -> set[str]:
    return {feature.name for feature in contract.features}.intersection(header)


def _without_fields(header: Sequence[str], delimiter: str, contract: Contract) -> Problem:
    found = ", ".join(header[:_NAMES_SHOWN]) or "nothing"
    return Problem(
        422,
        f"the first line must be the header: read with {_DELIMITERS[delimiter]}, it has none of this model's fields, "
        f"but {found[:200]}",
        tuple(FieldProblem(feature.name, "is missing", allowed_values(feature)) for feature in contract.features),
    )


def _refuse_ragged(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    ragged = [(index, len(row)) for index, row in enumerate(rows) if len(row) != len(header)]
    if ragged:
        errors = tuple(
            FieldProblem(f"row {index}", f"has {count} values", f"{len(header)}, as the header")
            for index, count in ragged[:_ROWS_SHOWN]
        )
        raise Problem(422, f"{len(ragged)} of {len(rows)} rows are longer or shorter than the header", errors)


def _number(text: str) -> float | str:
    try:
        # Python also reads underscores and the digits of other scripts, and NaN in spellings that do not mean missing.
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return text
    return text if math.isnan(number) else number
