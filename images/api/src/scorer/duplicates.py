"""Finds a key that stands twice in a JSON object: decoders silently take the last, and another reader the first."""

from __future__ import annotations

import json


class _RepeatedError(Exception):
    pass


def repeated_key(body: bytes, distinct: int) -> str | None:
    """Return a key that stands twice in any object of valid JSON, None where there is none.

    Args:
        body: Valid JSON whose outermost value is an object.
        distinct: The number of distinct keys of that object, when all its values are plain. Each key has a colon
            behind it: with no more colons than distinct keys, none is there twice, and nothing needs to be parsed.
    """
    if body.count(b":") == distinct:
        return None
    try:
        json.loads(body, object_pairs_hook=_pairs)
    except _RepeatedError as error:
        return str(error)
    return None


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedError(key)
        found[key] = value
    return found
