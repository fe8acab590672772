"""Limits that the server enforces on connections before an application sees a request, and how it drains.

uvicorn's httptools protocol limits neither the size of headers nor the time a request takes to arrive: its keep-alive
timeout ends with the first byte, and its concurrency limit counts idle connections. So this protocol counts and times
by itself. That costs a few integer operations per request; everything else happens in a sweep every half second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, cast

from prometheus_client import CollectorRegistry, Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from scorer.http.asgi import App, Receive, Scope, Send, send_problem
from scorer.http.media_types import PROBLEM_JSON
from scorer.problems import Problem
from scorer.settings import Settings

SWEEP_SECONDS = 0.5
# How long a client may take to read why its connection ends.
LINGER_SECONDS = 2.0
# A body may take longer than the time limit if it keeps arriving at least this fast, in bytes per second. Bytes that
# arrive together with the headers do not count.
MIN_BODY_RATE = 16384


@dataclass(frozen=True)
class Limits:
    """Limits of one connection and of all together.

    Attributes:
        header_bytes: Of the request line and headers.
        request_seconds: For a request to arrive, and for a client to take any of its answer.
        requests: Running at the same time.
        connections: Open at the same time.
    """

    header_bytes: int
    request_seconds: float
    requests: int
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits in the settings."""
        return cls(
            settings.max_header_bytes, settings.max_arrival_seconds,
            settings.max_concurrent_requests, settings.max_connections,
        )  # fmt: skip


class ConnectionLimits:
    """Applies the limits to the connections of one server, counts what is refused, and drains it before it stops."""

    def __init__(self, limits: Limits, registry: CollectorRegistry) -> None:
        """Take the limits and where to count what was refused."""
        self.limits = limits
        self.draining = False
        # Requests still waiting for their bodies, which are no load; the sweep counts them.
        self.arriving = 0
        refused = Counter("scorer_refused_total", "Requests refused by the server, by reason", ["reason"],
                          registry=registry)  # fmt: skip
        self.overloaded, self.crowded, self.slow, self.large, self.unread = (
            refused.labels(reason) for reason in ("overload", "connections", "slow", "headers", "unread-answer")
        )

    def protocol(self) -> type[HttpToolsProtocol]:
        """Return the protocol for uvicorn's `http` setting."""
        return cast("type[HttpToolsProtocol]", type("Limited", (LimitedProtocol,), {"limiter": self}))

    async def keep_sweeping(self, state: ServerState) -> None:
        """Sweep twice a second until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.sweep(cast("Iterable[LimitedProtocol]", tuple(state.connections)), loop.time())
            await asyncio.sleep(SWEEP_SECONDS)

    def sweep(self, connections: Iterable[LimitedProtocol], now: float) -> None:
        """End each connection that takes too long, and count the requests whose bodies are still arriving."""
        self.arriving = sum(connection.check(now) for connection in connections)

    async def drain(self, state: ServerState, seconds: float) -> None:
        """Close each connection after its next answer, until requests stop coming or the time is up."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        answered = -1
        while (state.tasks or answered != state.total_requests) and asyncio.get_running_loop().time() < deadline:
            answered = state.total_requests
            await asyncio.sleep(min(1.0, seconds))


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on size, time and number."""

    limiter: ClassVar[ConnectionLimits]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it at once if there are too many."""
        super().connection_made(transport)
        # When the current request began to arrive; None between requests.
        self.since: float | None = self.loop.time()
        self.in_headers = True
        self.header_bytes = self.body_bytes = 0
        self.unread, self.unread_since = 0, 0.0
        # When the connection was ended; whatever still arrives is discarded.
        self.ended_at: float | None = None
        if len(self.connections) > self.limiter.limits.connections:
            self.limiter.crowded.inc()
            self._end(_OVERLOADED)

    def data_received(self, data: bytes) -> None:
        """Parse bytes; headers beyond the limit are refused before they are complete."""
        if self.ended_at is not None:
            return
        if self.since is None:
            self.since = self.loop.time()
        if self.in_headers:
            self.header_bytes += len(data)
        else:
            self.body_bytes += len(data)
        super().data_received(data)
        if self.in_headers and self.header_bytes > self.limiter.limits.header_bytes and self.ended_at is None:
            self.limiter.large.inc()
            self._end(self._too_large())

    def on_message_begin(self) -> None:
        """Start the clock of a request that arrived right after another one."""
        super().on_message_begin()
        if self.since is None:
            self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Pass the request to the application, or refuse it."""
        limits, limiter = self.limiter.limits, self.limiter
        refusal: App | None = None
        if self.header_bytes > limits.header_bytes and self._head_size() > limits.header_bytes:
            limiter.large.inc()
            refusal = _refusing(self._too_large())
        elif len(self.tasks) - limiter.arriving >= limits.requests:
            limiter.overloaded.inc()
            refusal = _refusing(_OVERLOADED)
        self.in_headers = False
        if refusal is None:
            super().on_headers_complete()
        else:
            self.app, application = refusal, self.app
            super().on_headers_complete()
            self.app = application
        if limiter.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Stop the request's clock."""
        super().on_message_complete()
        self.since = None
        self.in_headers = True
        self.header_bytes = self.body_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """Refuse invalid HTTP with the same kind of answer as any other error."""
        self._end(Problem(400, msg.removesuffix(".").lower()))

    def check(self, now: float) -> bool:
        """End the connection if it takes too long; return whether a request's body is still arriving."""
        self._check_reader(now)
        if self.ended_at is not None and now - self.ended_at > LINGER_SECONDS:
            self.transport.abort()
        if self.ended_at is not None or self.since is None or self.transport.is_closing():
            return False
        if self.flow.read_paused:
            # The server stopped reading: not the client's fault.
            self.since = now
            return False
        answered = self.cycle is not None and not self.in_headers and self.cycle.response_complete
        allowed = self.limiter.limits.request_seconds + (0 if answered else self.body_bytes / MIN_BODY_RATE)
        if now - self.since > allowed:
            self.limiter.slow.inc()
            # If nothing was asked, or everything is answered, no client waits for an explanation.
            self._end(None if answered or (self.in_headers and not self.header_bytes) else _SLOW)
            return False
        return not self.in_headers and not answered

    def _check_reader(self, now: float) -> None:
        """Abort an answer that the client does not read."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self.unread:
            self.unread, self.unread_since = unread, now
        elif now - self.unread_since > self.limiter.limits.request_seconds:
            self.limiter.unread.inc()
            self.transport.abort()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> Problem:
        limit = self.limiter.limits.header_bytes
        return Problem(431, f"the request line and headers are larger than {limit} bytes", headers=(_CLOSE,))

    def _end(self, problem: Problem | None) -> None:
        """End the connection, with an explanation if one can still be sent.

        A connection closed at once is reset by the client's next bytes, and the explanation is lost.
        """
        self.ended_at = self.loop.time()
        running = self.cycle is not None and not self.cycle.response_complete
        if problem is None or (running and self.cycle.response_started):
            self.transport.close()
        else:
            self.transport.write(_raw(problem))
            self.transport.write_eof()
        if running:
            # The application is waiting for a body that will not arrive.
            self.cycle.disconnected = True
            self.cycle.message_event.set()


_CLOSE = ("Connection", "close")
_OVERLOADED = Problem(
    503, "the service is at its limit of concurrent requests; try again later", headers=(("Retry-After", "1"),)
)
_SLOW = Problem(408, "the request took too long to arrive")


def _raw(problem: Problem) -> bytes:
    """Return the bytes of an answer that no application sends."""
    body = problem.body()
    own = {"content-type": PROBLEM_JSON, "content-length": str(len(body))}
    headers = {**own, **{name.lower(): value for name, value in (*problem.headers, _CLOSE)}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[problem.status] + lines.encode() + b"\r\n" + body


def _refusing(problem: Problem) -> App:
    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send_problem(send, problem)

    return refuse
