"""What the endpoints share of HTTP: reading a body, headers and queries, and answering, straight on ASGI."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from scorer.problems import FieldProblem, Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
_JSON_TYPE = (b"content-type", JSON.encode())


_LONGEST_ID = 128


class RequestIds:
    """Gives each request an id: its own, else one as unique as a random one at a tenth of the cost."""

    def __init__(self) -> None:
        """Draw what sets this process's ids apart from all others."""
        self._prefix, self._count = secrets.token_hex(8), itertools.count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> str:
        """Return a request's X-Request-Id, else a new id of 32 hexadecimal digits."""
        given = headers.get(b"x-request-id")
        if given and len(given) <= _LONGEST_ID:
            return given.decode("latin-1")
        return f"{self._prefix}{next(self._count):016x}"


class ClientGoneError(Exception):
    """The client hung up before its request was whole; nobody waits for an answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return a request's whole body.

    Raises:
        Problem: 413 above the limit, in bytes.
        ClientGoneError: when the client hung up.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while message["type"] == "http.request" and message.get("more_body", False) and size <= limit:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if message["type"] != "http.request":
        raise ClientGoneError
    if size > limit:
        raise Problem(413, f"the body is larger than {limit} bytes")
    return b"".join(parts)


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """Return a request's content type without its parameters; JSON where none is given."""
    given = headers.get(b"content-type")
    if given is None or given == _JSON_TYPE[1]:
        return JSON
    return given.decode("latin-1").partition(";")[0].strip().lower()


def check_media_type(given: str, allowed: Iterable[str]) -> None:
    """Refuse a content type.

    Raises:
        Problem: 415 for one that is not allowed, naming those that are.
    """
    if given not in allowed:
        raise Problem(415, f"the body is {given or 'of no type'}; allowed is {' or '.join(allowed)}")


# Clients repeat themselves.
@lru_cache(maxsize=64)
def integer_parameter(query: bytes, name: str, maximum: int) -> int:
    """Return the one integer that a query string may hold, 1 to `maximum`; 0 where it is absent.

    Raises:
        Problem: 422 for another value, or another parameter.
    """
    allowed, value = f"an integer from 1 to {maximum}", 0
    for key, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if key != name:
            problem = FieldProblem(key, "is not a parameter of this endpoint", name)
        elif not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= (value := int(text)) <= maximum):
            problem = FieldProblem(key, f"is {text[:80]!r}", allowed)
        else:
            continue
        raise Problem(422, f"the query is wrong: {key}", (problem,))
    return value


async def answer(
    send: Send,
    body: bytes,
    status: int = 200,
    content_type: tuple[bytes, bytes] = _JSON_TYPE,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Send a whole answer."""
    lines = [content_type, (b"content-length", b"%d" % len(body))]
    lines += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def answer_problem(send: Send, problem: Problem) -> None:
    """Send a problem as problem+json."""
    await answer(send, problem.body(), problem.status, (b"content-type", PROBLEM_JSON.encode()), problem.headers)
