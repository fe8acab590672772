"""What surrounds each request: an id, limits on its body, a line in the log, and metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from decisions.service.problems import Problem

log = logging.getLogger("decisions.requests")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_SECONDS_FOR_A_PIECE = 30.0
BODIES = "/v1/outcomes"
MAX_OTHER_BODY_BYTES = 1 << 20


class Metrics:
    """What the service counts."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.registry = CollectorRegistry()
        self.requests = Counter("decisions_requests_total", "Requests by route and status code", ["route", "status"],
                                registry=self.registry)  # fmt: skip
        self.seconds = Histogram("decisions_request_seconds", "Time from a request's headers to the end of its answer",
                                 ["route"], registry=self.registry)  # fmt: skip
        self.outcomes = Counter("decisions_outcome_rows_total", "Rows of reported outcomes, by what became of them",
                                ["result"], registry=self.registry)  # fmt: skip
        self.replays = Counter("decisions_replays_total", "Replayed decisions, by what was found: same or different",
                               ["result"], registry=self.registry)  # fmt: skip


class Boundary:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        """Take the application, where to count, and the limit of a body of outcomes."""
        self._app, self._metrics, self._max_body_bytes = app, metrics, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began, status = _request_id(scope), time.monotonic(), 500
        limit = self._max_body_bytes if scope["path"] == BODIES else MAX_OTHER_BODY_BYTES

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        try:
            await self._app(scope, _limited(receive, limit), answer)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)
            # Neither the path nor the query: both may name an applicant.
            log.info("%s %s %d client=%s request_id=%s", scope["method"], route, status,
                     scope.get("decisions.client", "-"), request_id.decode())  # fmt: skip


def _request_id(scope: Scope) -> bytes:
    given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4()).encode()


def _limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that ends bodies that are too large or too slow by a problem."""
    size, complete = 0, False

    async def limited() -> Message:
        nonlocal size, complete
        if complete:
            # What comes now says only that the client is gone, whenever that is.
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), _SECONDS_FOR_A_PIECE)
        except TimeoutError as error:
            raise Problem(408, "the request's body did not arrive in time", headers={"Connection": "close"}) from error
        size += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if size > limit:
            raise Problem(413, f"the body is larger than {limit} bytes", headers={"Connection": "close"})
        return message

    return limited
