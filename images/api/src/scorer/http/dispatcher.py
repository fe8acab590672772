"""The outermost ASGI application: admits, dispatches, and is the one place that turns errors into answers."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from starlette.exceptions import HTTPException

from scorer.http.asgi import App, BodyTooLargeError, ClientGoneError, Message, Receive, Scope, Send, send_problem
from scorer.http.content_coding import CONTENT_ENCODING, CodedBodies, coding_of
from scorer.http.lingering import Lingering
from scorer.problems import Problem

log = logging.getLogger(__name__)
# Where the direct route's endpoint finds the request's headers by name; of those that are there twice, the last.
HEADERS = "scorer.headers"
# Where an endpoint leaves the perf_counter of when its request's body was complete.
BODY_COMPLETE = "scorer.body_complete"
# Clients of the Open Inference Protocol read an error from a member of their own.
_OPEN_INFERENCE = "/v2"


class Admission(Protocol):
    """Decides whether a request may pass."""

    async def admit(self, scope: Scope, send: Send) -> Send:
        """Return the `send` to answer the request with.

        Raises:
            Problem: If the request may not pass.
        """
        ...


@dataclass(frozen=True)
class DirectRoute:
    """An endpoint that is reached without the framework's routing, which would cost as much as its work.

    Attributes:
        method: Its HTTP method.
        path: Its path.
        endpoint: The ASGI application; it sends nothing before it is done.
        count_error: Counts the status of a request that it raised a problem for, with the perf_counter of when the
            body was complete, 0 if it never was.
    """

    method: str
    path: str
    endpoint: App
    count_error: Callable[[int, float], None]


class BodyBudget:
    """Limits the memory of all bodies together that requests hold until they are answered.

    Batches are scored one at a time, so without it their bodies would pile up: 60 of the largest took 800 MB.
    """

    def __init__(self, max_bytes: int, count_refusal: Callable[[], object] = lambda: None) -> None:
        """Take the limit in bytes, and what counts a refused body."""
        self._max_bytes, self._held, self._count_refusal = max_bytes, 0, count_refusal

    @contextlib.contextmanager
    def counting(self, receive: Receive) -> Iterator[Receive]:
        """Yield a `receive` whose bytes count until the request has been answered.

        It raises a Problem, 503, for a body that does not fit.
        """
        held = 0

        async def counted_receive() -> Message:
            nonlocal held
            message = await receive()
            size = len(message.get("body", b""))
            held += size
            self._held += size
            if size and self._held > self._max_bytes:
                self._count_refusal()
                raise Problem(503, "too many large requests are waiting; try again", headers=(("Retry-After", "1"),))
            return message

        try:
            yield counted_receive
        finally:
            self._held -= held


class Dispatcher:
    """Passes requests on, and answers for whatever the applications behind it raise."""

    def __init__(
        self,
        app: App,
        direct: DirectRoute | None = None,
        admission: Admission | None = None,
        budget: BodyBudget | None = None,
        coded: CodedBodies | None = None,
    ) -> None:
        """Take the application for all requests but those of the direct route, who admits them, and limits of bodies.

        The budget counts bodies after inflation.
        """
        self._app, self._direct, self._admission = app, direct, admission
        self._budget = budget or BodyBudget(sys.maxsize)
        self._coded = coded or CodedBodies(sys.maxsize)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        direct = self._direct
        if direct is None or scope["path"] != direct.path or scope["method"] != direct.method:
            await self._pass_on(scope, receive, send)
            return
        admitted, lingering = False, None
        try:
            if self._admission is not None:
                send = await self._admission.admit(scope, send)
            admitted = True
            headers = scope[HEADERS] = dict(scope["headers"])
            coding = coding_of(scope["headers"]) if CONTENT_ENCODING in headers else None
            if coding is None:
                await direct.endpoint(scope, receive, send)
            else:
                lingering = Lingering(scope, receive, send)
                await direct.endpoint(scope, self._coded.inflated(coding, lingering.receive), send)
        except Exception as error:  # noqa: BLE001 - an unexpected error is an answer too, and logged
            if not (lingering or BODY_COMPLETE in scope or (isinstance(error, BodyTooLargeError) and error.complete)):
                lingering = Lingering(scope, receive, send)
            status = await _answer_error(error, scope, lingering.send if lingering else send)
            if admitted and status:
                direct.count_error(status, scope.get(BODY_COMPLETE, 0.0))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        lingering = Lingering(scope, receive, send)
        send = lingering.send

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if self._admission is not None:
                send = await self._admission.admit(scope, send)
            # Only POST has a body here, whatever the headers say.
            coding = coding_of(scope["headers"]) if scope["method"] == "POST" else None
            body = self._coded.inflated(coding, lingering.receive) if coding else lingering.receive
            with self._budget.counting(body) as counted_receive:
                await self._app(scope, counted_receive, watched_send)
        except Exception as error:
            if started:
                # Too late for another status; the server closes the connection in the middle of the answer.
                raise
            await _answer_error(error, scope, send)


async def _answer_error(error: Exception, scope: Scope, send: Send) -> int:
    """Answer a request that raised an error, and return the status; 0 if no client is waiting."""
    if isinstance(error, ClientGoneError):
        return 0
    if isinstance(error, Problem):
        problem = error
    elif isinstance(error, HTTPException):
        problem = Problem(error.status_code, str(error.detail), headers=tuple((error.headers or {}).items()))
    else:
        log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
        problem = Problem(500, "internal error; the service's log has the details")
    await send_problem(send, problem, repeat_detail=scope["path"].startswith(_OPEN_INFERENCE))
    return problem.status
