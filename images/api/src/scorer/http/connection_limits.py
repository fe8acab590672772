"""Limits that the server enforces on connections before an application sees a request, and how it drains.

uvicorn's httptools protocol limits neither the size of headers nor the time a request takes to arrive: its keep-alive
timeout ends with the first byte, and its concurrency limit counts idle connections. So this protocol counts and times
by itself. That costs a few integer operations per request; everything else happens in a sweep every half second.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import ClassVar, cast

from prometheus_client import CollectorRegistry, Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
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


# How long a client that retries at once waits at most for its next refusal. Shorter pauses take more of the time for
# scoring; longer ones let single clients starve on a busy node.
MAX_PAUSE_SECONDS = 0.1


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
        # Requests that are answered while their tasks still wait to be collected by the event loop.
        self._answered = 0
        # Connections refused because of overload. They are not read until there is room: clients that retry at once
        # would otherwise take the time needed to score accepted requests.
        self.paused: set[LimitedProtocol] = set()
        self._resuming = False
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
            self.resume(state.tasks)
            await asyncio.sleep(SWEEP_SECONDS)

    def sweep(self, connections: Iterable[LimitedProtocol], now: float) -> None:
        """End each connection that takes too long, and count the requests whose bodies are still arriving."""
        self.arriving = sum(connection.check(now) for connection in connections)

    def full(self, tasks: Sized) -> bool:
        """Return whether the maximum number of requests is running."""
        return len(tasks) - self._answered - self.arriving >= self.limits.requests

    def count_answered(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop counting the request of the current task, which the event loop collects in its next turn."""
        if not self._answered:
            loop.call_soon(self._forget_answered)
        self._answered += 1

    def _forget_answered(self) -> None:
        self._answered = 0

    def pause(self, connection: LimitedProtocol) -> None:
        """Resume a connection that was refused and is not read when there is room, and soon in any case."""
        if not self.paused:
            connection.loop.call_later(MAX_PAUSE_SECONDS, self.resume_all)
        self.paused.add(connection)

    def resume_soon(self, loop: asyncio.AbstractEventLoop, tasks: Sized) -> None:
        """Resume paused connections if there is room once the event loop has collected finished tasks."""
        if not self._resuming:
            self._resuming = True
            loop.call_soon(loop.call_soon, self.resume, tasks)

    def resume(self, tasks: Sized) -> None:
        """Resume paused connections if there is room."""
        self._resuming = False
        if self.paused and not self.full(tasks):
            self.resume_all()

    def resume_all(self) -> None:
        """Resume all paused connections."""
        for connection in self.paused:
            if not connection.transport.is_closing():
                connection.flow.resume_reading()
        self.paused.clear()

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
        # When the connection was ended, infinite while answers are still due; whatever still arrives is discarded.
        self.ended_at: float | None = None
        # The request being answered. uvicorn's `cycle` is the latest request, which may be queued behind it.
        self.running: RequestResponseCycle | None = None
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
        elif limiter.full(self.tasks):
            limiter.overloaded.inc()
            if self._refuse_at_once():
                return
            refusal = _refusing(_OVERLOADED)
        if refusal is None:
            super().on_headers_complete()
        else:
            self.app, application = refusal, self.app
            super().on_headers_complete()
            self.app = application
        self.in_headers = False
        if not self.pipeline:
            self.running = self.cycle
        if limiter.draining:
            self.cycle.keep_alive = False

    def _refuse_at_once(self) -> bool:
        """Refuse a request because of overload, without a task; return False if an earlier answer must go out first.

        A refusal that runs as a task counts as a running request until the event loop has collected it. Under overload,
        refusals would cause more refusals until almost nothing was scored. A task also costs half as much as a score.
        """
        if self.parser.get_method() == b"HEAD" or not (self.cycle is None or self.cycle.response_complete):
            return False
        self.in_headers = False
        if self.limiter.draining or self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            self._end(_OVERLOADED)
            return True
        self.transport.write(_OVERLOADED_BYTES)
        # uvicorn ignores the rest of a request that has been answered.
        self.cycle = cast("RequestResponseCycle", _ANSWERED)
        super().on_response_complete()
        if not self.transport.is_closing():
            self.flow.pause_reading()
            self.limiter.pause(self)
        return True

    def on_response_complete(self) -> None:
        """Start the next pipelined request, and resume paused connections now that there may be room."""
        self.limiter.count_answered(self.loop)
        if self.pipeline:
            self.running = self.pipeline[-1][0]
        super().on_response_complete()
        if self.limiter.paused:
            self.limiter.resume_soon(self.loop, self.tasks)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell the application that is answering it."""
        self.limiter.paused.discard(self)
        if self.running is not None:
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for answers to complete requests; return whether any are due.

        A client may close its side once it has sent everything. uvicorn would close the connection and lose the answer.
        """
        if self.ended_at is not None:
            return self.ended_at == math.inf
        complete = self.since is None and self.cycle is not None and not self.cycle.response_complete
        return self._close_after(self.cycle if complete else self._unanswered_before())

    def _unanswered_before(self) -> RequestResponseCycle | None:
        """Return the request just before the one that is arriving, if it has not been answered."""
        if self.in_headers:
            return None if self.cycle is None or self.cycle.response_complete else self.cycle
        if not self.pipeline:
            return None
        # The arriving request is the last in the queue. It will not be answered.
        self.pipeline.popleft()
        return self.pipeline[0][0] if self.pipeline else self.running

    def _close_after(self, last: RequestResponseCycle | None) -> bool:
        """Stop reading, and close the connection after the answer to `last`; return False if that is None."""
        if last is None:
            return False
        last.keep_alive = False
        self.ended_at = math.inf
        return True

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

        A connection closed at once is reset by the client's next bytes, and the explanation is lost. Answers keep the
        order of requests: if earlier ones are due, the connection closes after them without an explanation.
        """
        if self._close_after(self._unanswered_before()):
            return
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


class _Answered:
    """Takes the place of uvicorn's cycle for a request that was answered without one."""

    response_complete = True
    message_event = asyncio.Event()


_ANSWERED = _Answered()


def _raw(problem: Problem, connection: tuple[tuple[str, str], ...] = (_CLOSE,)) -> bytes:
    """Return the bytes of an answer that no application sends."""
    body = problem.body()
    own = {"content-type": PROBLEM_JSON, "content-length": str(len(body))}
    headers = {**own, **{name.lower(): value for name, value in (*problem.headers, *connection)}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[problem.status] + lines.encode() + b"\r\n" + body


_OVERLOADED_BYTES = _raw(_OVERLOADED, ())


def _refusing(problem: Problem) -> App:
    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send_problem(send, problem)

    return refuse
