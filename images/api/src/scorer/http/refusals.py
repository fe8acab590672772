"""Answers that no application sends: the server refuses with them whatever it does not pass on."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from scorer.http.asgi import App, Receive, Scope, Send, send_problem
from scorer.http.media_types import PROBLEM_JSON
from scorer.problems import Problem

CLOSE = ("Connection", "close")
OVERLOADED = Problem(
    503, "the service is at its limit of concurrent requests; try again later", headers=(("Retry-After", "1"),)
)
SLOW = Problem(408, "the request took too long to arrive")


def too_large_headers(limit: int) -> Problem:
    """Return the refusal of headers that are larger than `limit` bytes."""
    return Problem(431, f"the request line and headers are larger than {limit} bytes", headers=(CLOSE,))


def raw_answer(problem: Problem, connection: tuple[tuple[str, str], ...] = (CLOSE,)) -> bytes:
    """Return the bytes of a refusal, with headers about its connection."""
    body = problem.body()
    own = {"content-type": PROBLEM_JSON, "content-length": str(len(body))}
    headers = {**own, **{name.lower(): value for name, value in (*problem.headers, *connection)}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[problem.status] + lines.encode() + b"\r\n" + body


OVERLOADED_ANSWER = raw_answer(OVERLOADED, ())


def refusing(problem: Problem) -> App:
    """Return an application that refuses each request."""

    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send_problem(send, problem)

    return refuse
