"""uvicorn's HTTP protocol with limits on the size of headers, the time of a request and the number of requests.

uvicorn's httptools protocol limits neither the size of headers nor the time a request takes to arrive: its keep-alive
timeout ends with the first byte, and its concurrency limit counts idle connections. So this protocol counts and times
by itself. That costs a few integer operations per request; everything else happens in a sweep every half second.
"""

from __future__ import annotations

import asyncio
import math
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from scorer.http.asgi import App
from scorer.http.concurrency import Concurrency
from scorer.http.connection_limits import ConnectionLimits
from scorer.http.lingering import LINGER_SECONDS
from scorer.http.refusals import OVERLOADED, OVERLOADED_ANSWER, SLOW, raw_answer, refusing, too_large_headers
from scorer.problems import Problem

# A body may take longer than the time limit if it keeps arriving at least this fast, in bytes per second. Bytes that
# arrive together with the headers do not count.
MIN_BODY_RATE = 16384


class _Answered:
    """Takes the place of uvicorn's cycle for a request that was answered without one."""

    response_complete = True
    message_event = asyncio.Event()


_ANSWERED = _Answered()


def limited_protocol(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """Return the protocol for uvicorn's `http` setting."""
    return cast("type[HttpToolsProtocol]", type("Limited", (LimitedProtocol,), {
        "limiter": limits, "concurrency": limits.concurrency,
    }))  # fmt: skip


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on size, time and number."""

    limiter: ClassVar[ConnectionLimits]
    concurrency: ClassVar[Concurrency]

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
        # Whether what arrives now waited outside for too long: see Concurrency.
        self.waited = False
        # The request being answered. uvicorn's `cycle` is the latest request, which may be queued behind it.
        self.running: RequestResponseCycle | None = None
        if len(self.connections) > self.limiter.limits.connections:
            self.limiter.metrics.crowded.inc()
            self._end(OVERLOADED)

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
            refusal = refusing(self._too_large())
        elif self.waited or self.concurrency.full(self.tasks, self.loop):
            limiter.metrics.overloaded.inc()
            if self._refuse_at_once():
                return
            refusal = refusing(OVERLOADED)
        if refusal is None:
            if not self.concurrency.measuring:
                self.concurrency.measure(self.loop)
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
            self._end(OVERLOADED)
            return True
        self.transport.write(OVERLOADED_ANSWER)
        # uvicorn ignores the rest of a request that has been answered.
        self.cycle = cast("RequestResponseCycle", _ANSWERED)
        super().on_response_complete()
        if not self.transport.is_closing():
            self.flow.pause_reading()
            self.concurrency.pause(self, self.loop, self.tasks)
        return True

    def on_response_complete(self) -> None:
        """Start the next pipelined request."""
        self.concurrency.count_answered(self.loop)
        if self.pipeline:
            self.running = self.pipeline[-1][0]
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell the application that is answering it."""
        self.concurrency.forget(self)
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
            self.limiter.metrics.slow.inc()
            # If nothing was asked, or everything is answered, no client waits for an explanation.
            self._end(None if answered or (self.in_headers and not self.header_bytes) else SLOW)
            return False
        return not self.in_headers and not answered

    def _check_reader(self, now: float) -> None:
        """Abort an answer that the client does not read."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self.unread:
            self.unread, self.unread_since = unread, now
        elif now - self.unread_since > self.limiter.limits.request_seconds:
            self.limiter.metrics.unread.inc()
            self.transport.abort()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def resume(self) -> None:
        """Read the connection again after a refusal."""
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _too_large(self) -> Problem:
        self.limiter.metrics.large.inc()
        return too_large_headers(self.limiter.limits.header_bytes)

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
            self.transport.write(raw_answer(problem))
            self.transport.write_eof()
        if running:
            # The application is waiting for a body that will not arrive.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
