"""The query parameters of the scoring endpoints; any other is refused by name."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from scorer.contract import Contract
from scorer.problems import FieldProblem, Problem

_REASONS, _WARNINGS = "reasons", "warnings"
# Regulation B's commentary (12 CFR 1002.9(b)(2), comment 1): more than four are not likely to help the applicant.
_USUAL_REASONS = 4
_BOOLEANS = {"true": True, "false": False}


class Query(NamedTuple):
    """What a request asks for beside scores.

    Attributes:
        reasons: At most how many reasons; 0 for none, four if the request does not say how many.
        warnings: Whether the answer tells of unusual values.
    """

    reasons: int = 0
    warnings: bool = True


# Clients repeat themselves.
@lru_cache(maxsize=64)
def read_query(query: bytes, most_reasons: int = 0) -> Query:
    """Return a query string's parameters.

    Args:
        query: The query string as it was sent.
        most_reasons: The most reasons that the endpoint gives; 0 if it gives none.

    Raises:
        Problem: 422 for any other value or parameter.
    """
    found = Query()
    names = [_REASONS, _WARNINGS] if most_reasons else [_WARNINGS]
    for key, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if key not in names:
            raise _invalid(key, "is not a parameter of this endpoint", ", ".join(names))
        if key == _WARNINGS:
            if text not in _BOOLEANS:
                raise _invalid(key, f"is {text[:80]!r}", "true or false")
            found = found._replace(warnings=_BOOLEANS[text])
        else:
            found = found._replace(reasons=_read_reasons(text, most_reasons))
    return found


def describe_query(contract: Contract | None, *, reasons: bool) -> list[dict[str, Any]]:
    """Return the parameters for OpenAPI, with the limits of the loaded model."""
    maximum = {} if contract is None else {"maximum": contract.max_reasons}
    most = {
        "name": _REASONS,
        "in": "query",
        "description": f"Return at most this many principal reasons, most harmful first; {_USUAL_REASONS} if empty",
        "schema": {"type": "integer", "minimum": 1, **maximum},
        "allowEmptyValue": True,
    }
    told = {
        "name": _WARNINGS,
        "in": "query",
        "description": "Whether the answer tells of values that were scored although training saw none like them",
        "schema": {"type": "boolean", "default": True},
    }
    return [most, told] if reasons else [told]


def _read_reasons(text: str, most: int) -> int:
    if not text:
        return min(_USUAL_REASONS, most)
    # 2.0 is an integer, as JSON Schema understands them.
    digits = text.removesuffix(".0")
    if digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= most:
        return int(digits)
    raise _invalid(_REASONS, f"is {text[:80]!r}", f"an integer from 1 to {most}")


def _invalid(name: str, problem: str, allowed: str) -> Problem:
    return Problem(422, f"invalid query parameter: {name}", (FieldProblem(name, problem, allowed),))
