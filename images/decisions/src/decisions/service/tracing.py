"""OpenTelemetry traces of the service's requests. Imported only where traces are exported."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from decisions.settings import ServeSettings

_EXPORT_SECONDS = 5.0
# For so long the end of the process waits for the last spans.
_CLOSE_SECONDS = 3.0
_HEADERS = {b"traceparent", b"tracestate"}
_extract = TraceContextTextMapPropagator().extract


class Tracing:
    """Puts spans around requests."""

    def __init__(self, export: SpanProcessor, ratio: float) -> None:
        """Take where spans go, and the share of requests without a parent that begin a trace."""
        pod = socket.gethostname()
        resource = Resource.create({"service.name": "decisions", "service.instance.id": pod, "k8s.pod.name": pod})
        # Not the process's global provider: FastAPI and others would begin to trace, too.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(export)
        self._tracer = self._provider.get_tracer("decisions")

    @classmethod
    def of(cls, settings: ServeSettings) -> Tracing:
        """Return the traces of a process, which exports its spans from now on; lines of its log name them.

        The library's own environment variables say the rest, such as OTEL_EXPORTER_OTLP_TRACES_HEADERS.
        """
        for handler in logging.getLogger().handlers:
            handler.addFilter(add_ids)
        exporter = OTLPSpanExporter(settings.tracing_endpoint, timeout=_EXPORT_SECONDS)
        return cls(BatchSpanProcessor(exporter), settings.tracing_ratio)

    def requests(self, app: ASGIApp) -> ASGIApp:
        """Return an application with a span for each request."""
        return _TracedRequests(app, self._tracer)

    async def close(self) -> None:
        """Send what waits, for a few seconds at most; what is left then goes with the process."""
        thread = threading.Thread(target=self._provider.shutdown, name="end-of-traces", daemon=True)
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join, _CLOSE_SECONDS)


class _TracedRequests:
    """A span has the path's template and a status; never a path, a query or a body, which may name an applicant."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
        with self._tracer.start_as_current_span(
            scope["method"], _extract(carrier), SpanKind.SERVER, {HTTP_REQUEST_METHOD: scope["method"]},
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            await self._answer(span, scope, receive, send)

    async def _answer(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status: int = message["status"]
                span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
                if status >= 500:
                    _mark(span, str(status))
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except BaseException as error:
            _mark(span, type(error).__name__)
            raise
        finally:
            if route := getattr(scope.get("route"), "path", None):
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute(HTTP_ROUTE, route)


def _mark(span: Span, error: str) -> None:
    span.set_attribute(ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR))


def add_ids(record: logging.LogRecord) -> bool:
    """Let a line of the log that is written during a request name its trace."""
    context = trace.get_current_span().get_span_context()
    # A record passes the filter of each handler.
    if context.is_valid and "trace_id" not in vars(record):
        record.__dict__["trace_id"] = trace_id = trace.format_trace_id(context.trace_id)
        record.msg = f"{record.msg} trace_id={trace_id} span_id={trace.format_span_id(context.span_id)}"
    return True
