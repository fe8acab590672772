"""OpenTelemetry traces of turns and of what is asked of others. Imported only where traces are exported."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import aiohttp
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from promoter.api.resource import GROUP
from promoter.promotion import Adapters, Promotion
from promoter.scheduler import Turn
from promoter.settings import Settings

NAMESPACE, NAME, PHASE = "creditrisk.promotion.namespace", "creditrisk.promotion.name", "creditrisk.promotion.phase"
# On the pods of a training that a turn starts; the chart makes a variable of it.
TRACEPARENT_ANNOTATION = f"{GROUP}/traceparent"
_EXPORT_SECONDS = 5.0
# For so long the end of the process waits for the last spans.
_CLOSE_SECONDS = 3.0
_inject = TraceContextTextMapPropagator().inject


class Tracing:
    """Puts spans around turns and requests."""

    def __init__(self, export: SpanProcessor, ratio: float, pod: str) -> None:
        """Take where spans go, the share of turns that are traced, and this pod's name."""
        named = {"service.instance.id": pod, "k8s.pod.name": pod} if pod else {}
        resource = Resource.create({"service.name": "operator", **named})
        # Not the process's global provider: the frameworks underneath would begin to trace, too.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(export)
        self._tracer: Tracer = self._provider.get_tracer("promoter")

    @classmethod
    def of(cls, settings: Settings) -> Tracing:
        """Return the traces of a process, which exports its spans from now on; lines of its log name them.

        The library's own environment variables say the rest, such as OTEL_EXPORTER_OTLP_TRACES_HEADERS.
        """
        for handler in logging.getLogger().handlers:
            handler.addFilter(add_ids)
        exporter = OTLPSpanExporter(settings.tracing_endpoint, timeout=_EXPORT_SECONDS)
        return cls(BatchSpanProcessor(exporter), settings.tracing_ratio, settings.pod_name)

    def turns(self, turn: Turn) -> Turn:
        """Return a turn with a span."""

        async def traced(adapters: Adapters, promotion: Promotion) -> None:
            owner = promotion.owner
            with self._span("turn", {NAMESPACE: owner.namespace, NAME: owner.name}) as span:
                try:
                    await turn(adapters, promotion)
                finally:
                    span.set_attribute(PHASE, promotion.state.phase.value)

        return traced

    def requests(self) -> aiohttp.TraceConfig:
        """Return what puts a span around each request of a session, and sends the trace with it."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._begin)
        config.on_request_end.append(_end)
        config.on_request_exception.append(_fail)
        return config

    @staticmethod
    def annotations() -> dict[str, str]:
        """Return the annotation by which a Job continues the current trace; none outside of one."""
        carrier: dict[str, str] = {}
        _inject(carrier)
        return {TRACEPARENT_ANNOTATION: carrier["traceparent"]} if carrier else {}

    async def close(self) -> None:
        """Send what waits, for a few seconds at most; what is left then goes with the process."""
        thread = threading.Thread(target=self._provider.shutdown, name="end-of-traces", daemon=True)
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join, _CLOSE_SECONDS)

    @contextmanager
    def _span(self, name: str, attributes: dict[str, str]) -> Iterator[Span]:
        """Yield a span; of an error it has the class alone, because a message may quote what others answered."""
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                _mark(span, type(error).__name__)
                raise

    async def _begin(
        self, _: aiohttp.ClientSession, context: SimpleNamespace, request: aiohttp.TraceRequestStartParams
    ) -> None:
        url = request.url
        attributes: dict[str, str | int] = {
            HTTP_REQUEST_METHOD: request.method, SERVER_ADDRESS: url.host or "", SERVER_PORT: url.port or 0,
            URL_PATH: url.path,
        }  # fmt: skip
        context.span = self._tracer.start_span(f"{request.method} {url.host}", None, SpanKind.CLIENT, attributes)
        _inject(request.headers, trace.set_span_in_context(context.span))


async def _end(_: aiohttp.ClientSession, context: SimpleNamespace, answer: aiohttp.TraceRequestEndParams) -> None:
    status = answer.response.status
    context.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    # To be told that something is not there, or is there already, is no failure.
    if status >= 500:
        _mark(context.span, str(status))
    context.span.end()


async def _fail(
    _: aiohttp.ClientSession, context: SimpleNamespace, failed: aiohttp.TraceRequestExceptionParams
) -> None:
    _mark(context.span, type(failed.exception).__name__)
    context.span.end()


def _mark(span: Span, error: str) -> None:
    span.set_attribute(ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR))


def add_ids(record: logging.LogRecord) -> bool:
    """Let a line of the log that is written during a turn name its trace."""
    context = trace.get_current_span().get_span_context()
    # A record passes the filter of each handler.
    if context.is_valid and "trace_id" not in vars(record):
        record.__dict__["trace_id"] = trace_id = trace.format_trace_id(context.trace_id)
        record.msg = f"{record.msg} trace_id={trace_id} span_id={trace.format_span_id(context.span_id)}"
    return True
