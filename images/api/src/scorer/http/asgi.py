"""HTTP basics for endpoints on plain ASGI: reading bodies, headers and queries, and sending answers."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from scorer.http.media_types import JSON, PROBLEM_JSON
from scorer.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON_TYPE = (b"content-type", JSON.encode())
_PROBLEM_TYPE = (b"content-type", PROBLEM_JSON.encode())
_MAX_ID_LENGTH = 128


class RequestIds:
    """Assigns request ids: the client's own, or a new one that is unique at a tenth of a random one's cost."""

    def __init__(self) -> None:
        """Draw the random prefix that separates this process's ids from those of others."""
        self._prefix, self._count = secrets.token_hex(8), itertools.count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the request's X-Request-Id, or a new id of 32 hexadecimal digits."""
        given = headers.get(b"x-request-id")
        if given and len(given) <= _MAX_ID_LENGTH:
            return given.decode("latin-1")
        return f"{self._prefix}{next(self._count):016x}"


class ClientGoneError(Exception):
    """The client disconnected before its request was complete; nobody is waiting for an answer."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole request body.

    Raises:
        Problem: 413 if the body is larger than `limit` bytes.
        ClientGoneError: If the client disconnected.
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
    """Return the request's content type without parameters; JSON if the request names none."""
    given = headers.get(b"content-type")
    if given is None or given == _JSON_TYPE[1]:
        return JSON
    return given.decode("latin-1").partition(";")[0].strip().lower()


def check_media_type(given: str, allowed: Iterable[str]) -> None:
    """Refuse content types that an endpoint does not read.

    Raises:
        Problem: 415 that names the allowed types.
    """
    if given not in allowed:
        raise Problem(415, f"the body's media type is {given or 'empty'}; allowed: {', '.join(allowed)}")


async def send_answer(
    send: Send,
    body: bytes,
    status: int = 200,
    content_type: tuple[bytes, bytes] = _JSON_TYPE,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Send a complete answer."""
    lines = [content_type, (b"content-length", b"%d" % len(body))]
    lines += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem, *, repeat_detail: bool = False) -> None:
    """Send a problem as problem+json; `repeat_detail` is that of `Problem.body`."""
    body = problem.body(repeat_detail=repeat_detail)
    await send_answer(send, body, problem.status, _PROBLEM_TYPE, problem.headers)
