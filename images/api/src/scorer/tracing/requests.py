"""The outermost span: one for each request to score, which continues the trace that the client or ingress began."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Collection, Iterable
from contextvars import ContextVar

from opentelemetry import context as current_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.url_attributes import URL_SCHEME
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scorer.canary.client import FORWARDED
from scorer.http.asgi import App, Message, Receive, Scope, Send
from scorer.tracing.spans import fail

_TRACEPARENT, _TRACESTATE = b"traceparent", b"tracestate"
_FORWARDED = FORWARDED.encode()
_RELEVANT = {_TRACEPARENT, _TRACESTATE, _FORWARDED}
_extract = TraceContextTextMapPropagator().extract
_NO_PARENT = Context()
# Whether the current request's spans are kept. Its span knows that too, but to find it takes longer.
sampled: ContextVar[bool] = ContextVar("sampled", default=False)


class TracedRequests:
    """Passes requests on, a share of them in spans. All scoring is POST; pages and health checks are not traced."""

    def __init__(self, app: App, tracer: Tracer, ratio: float, own_paths: Collection[str]) -> None:
        """Take the application, what makes spans, and the paths that are not templates of the framework's.

        `ratio` is the share of the requests without a parent that begin a trace.
        """
        self._app, self._tracer, self._ratio, self._own_paths = app, tracer, ratio, own_paths

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request.

        Nearly all of them end here, so that they cost little: not even a coroutine, and no span that keeps nothing.
        """
        if scope["type"] != "http" or scope["method"] != "POST":
            return self._app(scope, receive, send)
        headers = [header for header in scope["headers"] if header[0] in _RELEVANT]
        if headers:
            if parent := parent_of(headers):
                return self._trace(parent, scope, receive, send)
            if any(name == _FORWARDED for name, _ in headers):
                # The stable pod has decided for what it sends to the canary.
                return self._app(scope, receive, send)
        if random.random() >= self._ratio:  # noqa: S311 - it keeps no secret
            return self._app(scope, receive, send)
        return self._trace(_NO_PARENT, scope, receive, send)

    async def _trace(self, parent: Context, scope: Scope, receive: Receive, send: Send) -> None:
        span = self._tracer.start_span("POST", parent, SpanKind.SERVER)
        token = current_context.attach(trace.set_span_in_context(span))
        try:
            if span.is_recording():
                await self._record(span, scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            current_context.detach(token)

    async def _record(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status: int = message["status"]
                span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
                if status >= 500:
                    fail(span, str(status))
            await send(message)

        keeping = sampled.set(True)
        span.set_attribute(HTTP_REQUEST_METHOD, "POST")
        span.set_attribute(URL_SCHEME, scope["scheme"])
        span.set_attribute(NETWORK_PROTOCOL_VERSION, scope["http_version"])
        try:
            await self._app(scope, receive, watched_send)
        except BaseException as error:
            fail(span, type(error).__name__)
            raise
        finally:
            # Never the path itself: a client may write anything there.
            if route := self._route(scope):
                span.update_name(f"POST {route}")
                span.set_attribute(HTTP_ROUTE, route)
            span.end()
            sampled.reset(keeping)

    def _route(self, scope: Scope) -> str | None:
        """Return the template of the request's path; None if nothing is there."""
        path: str = scope["path"]
        if path in self._own_paths:
            return path
        route: str | None = getattr(scope.get("route"), "path", None)
        return route


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Return the context with the span that a request's W3C headers name; empty if they are absent or malformed."""
    carrier: dict[str, list[str]] = {}
    for name, value in headers:
        carrier.setdefault(name.decode(), []).append(value.decode("latin-1"))
    # The standard asks to begin a new trace if there are several parents.
    return _extract(carrier) if len(carrier.get("traceparent", ())) == 1 else _NO_PARENT
