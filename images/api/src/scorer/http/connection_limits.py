"""What the server itself enforces on connections, before any application sees a request, and while it drains.

uvicorn's httptools protocol has no limit on the size of headers and no time limit on a request's arrival: its
keep-alive timeout ends with the first byte. Its limit on concurrency counts idle connections. So this protocol counts
and times by itself. A request costs it some integer operations; all else is done by a sweep every half second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, cast

from prometheus_client import CollectorRegistry, Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from scorer.http.asgi import PROBLEM_JSON, App, Receive, Scope, Send, answer_problem
from scorer.problems import Problem
from scorer.settings import Settings

SWEEP_SECONDS = 0.5
# So long the client may read why its connection ends.
LINGER_SECONDS = 2.0
# A body may take longer than the time limit when it keeps coming at least this fast, in bytes per second; what comes
# along with the head does not count.
SLOWEST_BODY = 16384


@dataclass(frozen=True)
class Limits:
    """What one connection, and all together, may take."""

    header_bytes: int
    request_seconds: float
    requests: int
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings name."""
        return cls(
            settings.max_header_bytes, settings.max_arrival_seconds,
            settings.max_concurrent_requests, settings.max_connections,
        )  # fmt: skip


class Guard:
    """The limits of one server, what it refused, and whether it is about to stop."""

    def __init__(self, limits: Limits, registry: CollectorRegistry) -> None:
        """Take the limits and where to count what was refused."""
        self.limits = limits
        self.draining = False
        # Requests that wait for their own bodies; they are no load. Counted by the sweep.
        self.arriving = 0
        refused = Counter("scorer_refused_total", "Requests refused by the server, by reason", ["reason"],
                          registry=registry)  # fmt: skip
        self.overload, self.crowd, self.slow, self.large, self.unread = (
            refused.labels(reason) for reason in ("overload", "connections", "slow", "headers", "unread-answer")
        )

    def protocol(self) -> type[HttpToolsProtocol]:
        """Return the protocol for uvicorn's `http` setting."""
        return cast("type[HttpToolsProtocol]", type("Guarded", (GuardedProtocol,), {"guard": self}))

    async def keep_sweeping(self, state: ServerState) -> None:
        """Look for what takes too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.sweep(cast("Iterable[GuardedProtocol]", tuple(state.connections)), loop.time())
            await asyncio.sleep(SWEEP_SECONDS)

    def sweep(self, connections: Iterable[GuardedProtocol], now: float) -> None:
        """End each connection that takes too long, and count the requests that still arrive."""
        self.arriving = sum(connection.check(now) for connection in connections)

    async def drain(self, state: ServerState, seconds: float) -> None:
        """Close each connection behind its next answer, until nobody asks any more or the time is over."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        answered = -1
        while (state.tasks or answered != state.total_requests) and asyncio.get_running_loop().time() < deadline:
            answered = state.total_requests
            await asyncio.sleep(min(1.0, seconds))


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on size, time and number."""

    guard: ClassVar[Guard]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or say at once that there are too many."""
        super().connection_made(transport)
        # Since when a request has been arriving; None between requests.
        self.since: float | None = self.loop.time()
        self.in_head = True
        self.head_bytes = self.body_bytes = 0
        self.unread, self.unread_since = 0, 0.0
        # Since when all is said; what still comes is thrown away.
        self.over_since: float | None = None
        if len(self.connections) > self.guard.limits.connections:
            self.guard.crowd.inc()
            self._end(_OVERLOADED)

    def data_received(self, data: bytes) -> None:
        """Parse bytes; a head that grows beyond the limit is refused before it ends."""
        if self.over_since is not None:
            return
        if self.since is None:
            self.since = self.loop.time()
        if self.in_head:
            self.head_bytes += len(data)
        else:
            self.body_bytes += len(data)
        super().data_received(data)
        if self.in_head and self.head_bytes > self.guard.limits.header_bytes and self.over_since is None:
            self.guard.large.inc()
            self._end(self._too_large())

    def on_message_begin(self) -> None:
        """Start the clock of a request that came right behind another one."""
        super().on_message_begin()
        if self.since is None:
            self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Hand the request to the application, or to an answer that refuses it."""
        limits, guard = self.guard.limits, self.guard
        refusal: App | None = None
        if self.head_bytes > limits.header_bytes and self._head_size() > limits.header_bytes:
            guard.large.inc()
            refusal = _refusing(self._too_large())
        elif len(self.tasks) - guard.arriving >= limits.requests:
            guard.overload.inc()
            refusal = _refusing(_OVERLOADED)
        self.in_head = False
        if refusal is None:
            super().on_headers_complete()
        else:
            self.app, application = refusal, self.app
            super().on_headers_complete()
            self.app = application
        if guard.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Stop the request's clock."""
        super().on_message_complete()
        self.since = None
        self.in_head = True
        self.head_bytes = self.body_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP in the form of all other errors."""
        self._end(Problem(400, msg.removesuffix(".").lower()))

    def check(self, now: float) -> bool:
        """End the connection when it takes too long; return whether a request's body is still arriving."""
        self._check_reader(now)
        if self.over_since is not None and now - self.over_since > LINGER_SECONDS:
            self.transport.abort()
        if self.over_since is not None or self.since is None or self.transport.is_closing():
            return False
        if self.flow.read_paused:
            # The server does not read: the client is not to blame.
            self.since = now
            return False
        answered = self.cycle is not None and not self.in_head and self.cycle.response_complete
        allowed = self.guard.limits.request_seconds + (0 if answered else self.body_bytes / SLOWEST_BODY)
        if now - self.since > allowed:
            self.guard.slow.inc()
            # Nobody waits for words where nothing was asked or everything is answered.
            self._end(None if answered or (self.in_head and not self.head_bytes) else _SLOW)
            return False
        return not self.in_head and not answered

    def _check_reader(self, now: float) -> None:
        """Give up an answer of which the client takes nothing."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self.unread:
            self.unread, self.unread_since = unread, now
        elif now - self.unread_since > self.guard.limits.request_seconds:
            self.guard.unread.inc()
            self.transport.abort()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> Problem:
        limit = self.guard.limits.header_bytes
        return Problem(431, f"the request's line and headers are larger than {limit} bytes", headers=(_CLOSE,))

    def _end(self, problem: Problem | None) -> None:
        """End the connection, saying why where that can still be said.

        Closed at once, a connection is reset by the client's next bytes, and with it goes the answer.
        """
        self.over_since = self.loop.time()
        running = self.cycle is not None and not self.cycle.response_complete
        if problem is None or (running and self.cycle.response_started):
            self.transport.close()
        else:
            self.transport.write(_raw(problem))
            self.transport.write_eof()
        if running:
            # The application waits for a body that will not come.
            self.cycle.disconnected = True
            self.cycle.message_event.set()


_CLOSE = ("Connection", "close")
_OVERLOADED = Problem(
    503, "the service is at its limit of concurrent requests; try again", headers=(("Retry-After", "1"),)
)
_SLOW = Problem(408, "the request took too long to arrive")


def _raw(problem: Problem) -> bytes:
    """Return an answer's bytes, for where no application is there to give it."""
    body = problem.body()
    own = {"content-type": PROBLEM_JSON, "content-length": str(len(body))}
    headers = {**own, **{name.lower(): value for name, value in (*problem.headers, _CLOSE)}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[problem.status] + lines.encode() + b"\r\n" + body


def _refusing(problem: Problem) -> App:
    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await answer_problem(send, problem)

    return refuse
