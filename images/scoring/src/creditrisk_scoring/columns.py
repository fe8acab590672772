"""Arrow arrays as the columns that the scoring service's own code reads."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from creditrisk_scoring.errors import UsageError
from scorer.applications.rows import Column, Repeated

_NO_NUMBER = frozenset({"_", " "})


def column_of(name: str, array: pa.Array, *, numeric: bool) -> Column:
    """Return an array's values: float64 for a numeric feature, else distinct texts and where they are.

    Texts in a numeric feature's column are read as numbers; those that are none stay texts, and are refused by row.

    Raises:
        UsageError: The column's type cannot hold such values at all.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        return _numbers(array) if numeric else _texts(array)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        allowed = "numbers" if numeric else "strings"
        raise UsageError(f"column {name} is of type {array.type}; allowed: {allowed} ({error})") from error


def _numbers(array: pa.Array) -> Column:
    if _is_text(array.type):
        return _read_numbers(array)
    if pa.types.is_temporal(array.type):
        raise pa.ArrowTypeError("a date or time is no number")
    # Not safe: a whole number above 2**53 is rounded, not refused.
    column: Column = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return column


def _read_numbers(array: pa.Array) -> Column:
    """Return texts as numbers; if one of them is none, all as a list in which it stays a text."""
    try:
        column: Column = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return [_read_number(text) for text in _decoded(array)]
    return column


def _read_number(text: str | None) -> float | str | None:
    if text is None or not text.isascii() or _NO_NUMBER.intersection(text):
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _texts(array: pa.Array) -> Column:
    texts = array if _is_text(array.type) else array.cast(pa.string())
    encoded = pc.dictionary_encode(texts, null_encoding="encode")
    values = _decoded(encoded.dictionary)
    if pa.types.is_floating(array.type):
        # A table's way to say that no value of a column is known, whatever the column holds otherwise.
        values = [None if text == "nan" else text for text in values]
    return Repeated(values, encoded.indices.to_numpy(zero_copy_only=False))


def _is_text(kind: pa.DataType) -> bool:
    return any(
        known(kind)
        for known in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )  # fmt: skip


def _decoded(texts: pa.Array) -> list[str | None]:
    """Return texts; files may hold bytes that are none, which then are no category and no number."""
    found = texts.cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode(errors="replace") for text in found]
