"""HTTP basics for endpoints on plain ASGI: reading bodies, headers and queries, and sending answers."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from scorer.http.media_types import BINARY, JSON, PROBLEM_JSON
from scorer.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_JSON_TYPE = (b"content-type", JSON.encode())
_PROBLEM_TYPE = (b"content-type", PROBLEM_JSON.encode())
_MAX_ID_LENGTH = 128
_CHARSETS = {"utf-8", "utf8"}
# What may stand in a URL as it is.
_URL_CHARACTERS = "/%:=@!$&'()*+,;?"


class RequestIds:
    """Assigns request ids: the client's own, or a new one that is unique at a tenth of a random one's cost."""

    def __init__(self) -> None:
        """Draw the random prefix that separates this process's ids from those of others."""
        self._prefix, self._count = secrets.token_hex(8), itertools.count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the request's X-Request-Id, or a new id of 32 hexadecimal digits."""
        given = headers.get(b"x-request-id")
        if given and len(given) <= _MAX_ID_LENGTH:
            return header_text(given)
        return f"{self._prefix}{next(self._count):016x}"


def header_text(value: bytes) -> str:
    """Return a header's value, which clients write in UTF-8 or, as HTTP once had it, in Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def encoded_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as they are sent."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


class ClientGoneError(Exception):
    """The client disconnected before its request was complete; nobody is waiting for an answer."""


class BodyTooLargeError(Problem):
    """A body is larger than its limit.

    Attributes:
        complete: Whether all of it has arrived.
    """

    def __init__(self, limit: int, *, complete: bool) -> None:
        """Take the limit in bytes, and whether the client has sent everything."""
        super().__init__(413, f"the body is larger than {limit} bytes")
        self.complete = complete


def request_id_header(request_id: str) -> tuple[str, str]:
    """Return the header that names the request, for answers whose bodies do not; in UTF-8, as most clients read it."""
    return "X-Request-Id", request_id.encode().decode("latin-1")


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole request body.

    Raises:
        BodyTooLargeError: If the body is larger than `limit` bytes.
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
        raise BodyTooLargeError(limit, complete=not message.get("more_body", False))
    return b"".join(parts)


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """Return the request's content type without parameters; JSON if the request names none.

    Raises:
        Problem: 415 for text that is not UTF-8.
    """
    given = headers.get(b"content-type")
    if given is None or given == _JSON_TYPE[1]:
        return JSON
    return _parse_media_type(given)


# Clients repeat themselves.
@lru_cache(maxsize=64)
def _parse_media_type(given: bytes) -> str:
    name, *parameters = (part.strip().lower() for part in given.decode("latin-1").split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and name not in BINARY and (charset := value.strip('"')) not in _CHARSETS:
            raise Problem(415, f"the body's charset is {charset[:80] or 'empty'}; allowed: utf-8")
    return name


def check_media_type(given: str, allowed: Collection[str]) -> None:
    """Refuse content types that an endpoint does not read.

    Raises:
        Problem: 415 that names the allowed types.
    """
    if given not in allowed:
        types = ", ".join(allowed)
        detail = f"the body's media type is {given or 'empty'}; allowed: {types}"
        raise Problem(415, detail, headers=(("Accept", types),))


async def send_answer(
    send: Send,
    body: bytes,
    status: int = 200,
    content_type: tuple[bytes, bytes] = _JSON_TYPE,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Send a complete answer."""
    lines = [content_type, (b"content-length", b"%d" % len(body)), *encoded_headers(headers)]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem, *, repeat_detail: bool = False) -> None:
    """Send a problem as problem+json; `repeat_detail` is that of `Problem.body`."""
    body = problem.body(repeat_detail=repeat_detail)
    await send_answer(send, body, problem.status, _PROBLEM_TYPE, problem.headers)


async def send_empty(send: Send, status: int, headers: Iterable[tuple[str, str]]) -> None:
    """Send an answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": encoded_headers(headers)})
    await send({"type": "http.response.body", "body": b""})


async def send_redirect(send: Send, path: str, query: bytes) -> None:
    """Send the client to a path relative to its own, by the same method.

    A relative path keeps what this service cannot know: the scheme and host that the client used, and the prefix that a
    proxy took off. It must begin with a segment that is no scheme, such as `..`.
    """
    location = quote(path, safe="/") + ("?" + quote(query, safe=_URL_CHARACTERS) if query else "")
    await send_empty(send, 307, [("Location", location), ("Content-Length", "0")])
