"""Finds a key that stands twice in a JSON object: decoders silently take the last, and another reader the first."""

from __future__ import annotations

import json
from collections.abc import Collection


class _RepeatedError(Exception):
    pass


def repeated_key(body: bytes, distinct: int) -> str | None:
    """Return a key that stands twice in any object of valid JSON, None where there is none.

    Args:
        body: Valid JSON.
        distinct: The number of distinct keys that a decoder found in all objects. Each key has a colon behind it: with
            no more colons than that, none is there twice, and nothing needs to be parsed again.
    """
    if body.count(b":") == distinct:
        return None
    try:
        # Numbers stay text: one of 5,000 digits is no reason to fail here.
        json.loads(body, object_pairs_hook=_pairs, parse_int=str)
    except _RepeatedError as error:
        return str(error)
    return None


def keys_of(document: object) -> int:
    """Return the number of distinct keys of all objects in a decoded document."""
    if isinstance(document, dict):
        return len(document) + _keys_within(document.values())
    return _keys_within(document) if isinstance(document, list) else 0


def _keys_within(values: Collection[object]) -> int:
    # Most collections hold plain values alone: their types are looked at in C.
    if set(map(type, values)).isdisjoint((dict, list)):
        return 0
    return sum(map(keys_of, values))


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedError(key)
        found[key] = value
    return found
