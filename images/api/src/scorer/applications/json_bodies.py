"""JSON bodies: bounded before they are parsed, without duplicate keys, and with NaN where a protocol needs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from scorer.applications.duplicate_keys import count_keys, duplicate_key
from scorer.applications.rows import MAX_ROWS
from scorer.problems import FieldProblem, Problem

# msgspec raises the latter two for object keys that are not UTF-8 and for nesting that is too deep.
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A string, even one that does not end, or NaN outside of strings.
_STRING_OR_NAN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|NaN', re.DOTALL)
# A row of 64 values has room for any contract. Parsers make an object of 50 bytes or more of each value, so a body that
# holds little else would take fifty times its size before its rows could be counted.
MAX_VALUES = MAX_ROWS * 64


def check_value_count(body: bytes, separators: bytes) -> None:
    """Refuse a body before it is parsed if it has more values than the largest batch.

    Args:
        body: Text in which a separator follows each value but the last.
        separators: The bytes that separate values.

    Raises:
        Problem: 413 with the limit.
    """
    if sum(body.count(separator) for separator in separators) > MAX_VALUES:
        raise Problem(413, f"the body has too many values; at most {MAX_VALUES} are allowed")


def read_json(body: bytes, decode: Callable[[bytes], Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Return the decoded body; `decode` is for callers that need a type, and that check for duplicate keys themselves.

    Raises:
        Problem: 400 if the body is not JSON, cannot be represented, or has a key twice in an object; 413 for too many
            values.
        msgspec.ValidationError: If it does not have the type that `decode` needs.
    """
    check_value_count(body, b",")
    try:
        if decode:
            return decode(body)
        document = msgspec.json.decode(body)
        twice = duplicate_key(body, count_keys(document))
    except BAD_JSON as error:
        if decode and isinstance(error, msgspec.ValidationError):
            raise
        raise Problem(400, f"the body is not valid JSON: {error}") from error
    if twice is not None:
        raise appears_twice(twice)
    return document


def read_json_with_nan(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the decoded body, with null for NaN, which pandas and numpy users send although JSON does not have it.

    Raises:
        Problem: What `read_json` raises.
    """
    try:
        return read_json(body)
    except Problem:
        if b"NaN" not in body:
            raise
        return read_json(_STRING_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body))


def appears_twice(field: str) -> Problem:
    """Return the problem of a key that appears twice in an object."""
    return Problem(400, f"the field {field} appears twice", (FieldProblem(field, "appears twice", "once"),))
