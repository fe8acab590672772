"""Finds keys that appear twice in a JSON object: decoders silently keep the last one, other readers the first."""

from __future__ import annotations

import json
from collections.abc import Collection


class _DuplicateKeyError(Exception):
    pass


def duplicate_key(body: bytes, distinct: int) -> str | None:
    """Return a key that appears twice in any object of valid JSON, None if there is none.

    Args:
        body: Valid JSON.
        distinct: The number of distinct keys that a decoder found in all objects. Every key is followed by a colon: if
            there are no more colons than keys, no key appears twice, and nothing needs to be parsed again.

    Raises:
        RecursionError: If the document is nested too deeply.
    """
    if body.count(b":") == distinct:
        return None
    try:
        # Numbers stay text: one of 5,000 digits is no reason to fail here.
        json.loads(body, object_pairs_hook=_checked_object, parse_int=str)
    except _DuplicateKeyError as error:
        return str(error)
    return None


def count_keys(document: object) -> int:
    """Return the number of distinct keys in all objects of a decoded document."""
    if isinstance(document, dict):
        return len(document) + _count_keys_within(document.values())
    return _count_keys_within(document) if isinstance(document, list) else 0


def _count_keys_within(values: Collection[object]) -> int:
    # Most collections hold only plain values; comparing their types happens in C.
    if set(map(type, values)).isdisjoint((dict, list)):
        return 0
    return sum(map(count_keys, values))


def _checked_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found
