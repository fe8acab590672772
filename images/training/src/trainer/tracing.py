"""OpenTelemetry traces of a training run: a span for each phase. Without an endpoint, nothing of it is loaded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from trainer.errors import BadInputError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

_EXPORT_SECONDS = 5.0
# What makes spans, in a process that traces; and the span of the current phase.
_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)
_span: ContextVar[Span | None] = ContextVar("span", default=None)


@contextlib.contextmanager
def exported(endpoint: str, traceparent: str, attributes: Mapping[str, str]) -> Iterator[None]:
    """Export the spans of the block, which is the span `training`; do nothing without an endpoint.

    Args:
        endpoint: Where OTLP over HTTP takes traces; empty for no tracing.
        traceparent: Of the span that started the run, as W3C writes it; empty to begin a trace.
        attributes: Of the span `training`.

    Raises:
        BadInputError: The packages of the extra `tracing` are not installed.
    """
    if not endpoint:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise BadInputError(
            f"--tracing-endpoint: the packages of the extra `tracing` are incomplete: {error}"
        ) from error
    exporter = OTLPSpanExporter(endpoint, timeout=_EXPORT_SECONDS)
    with traced(BatchSpanProcessor(exporter), traceparent, attributes):
        yield


@contextlib.contextmanager
def traced(export: SpanProcessor, traceparent: str, attributes: Mapping[str, str]) -> Iterator[None]:
    """Do as `exported`, to where `export` sends them; lines of the log name the trace."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    # Not the process's global provider: MLflow has one of its own, and nothing else should trace.
    provider = TracerProvider(resource=Resource.create({"service.name": "training"}), shutdown_on_exit=False)
    provider.add_span_processor(export)
    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    handlers = logging.getLogger().handlers
    with contextlib.ExitStack() as stack:
        stack.callback(provider.shutdown)
        stack.callback(_tracer.reset, _tracer.set(provider.get_tracer("trainer")))
        for handler in handlers:
            handler.addFilter(_add_ids)
            stack.callback(handler.removeFilter, _add_ids)
        with provider.get_tracer("trainer").start_as_current_span(
            "training", parent, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        ) as span, _current(span):  # fmt: skip
            yield


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Put a span around the block, in a process that traces."""
    tracer = _tracer.get()
    if tracer is None:
        yield
        return
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span, \
            _current(span):  # fmt: skip
        yield


def describe(attributes: Mapping[str, str]) -> None:
    """Add attributes to the span of the current phase, if there is one."""
    if span := _span.get():
        span.set_attributes(dict(attributes))


def headers() -> dict[str, str]:
    """Return the headers by which a request continues the trace; none in a process that does not trace."""
    if _span.get() is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


@contextlib.contextmanager
def _current(span: Span) -> Iterator[None]:
    """Let a span be the current phase's; of an error it has the class alone, because messages quote data."""
    token = _span.set(span)
    try:
        yield
    except BaseException as error:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        _span.reset(token)


def _add_ids(record: logging.LogRecord) -> bool:
    # A record passes the filter of each handler.
    if (span := _span.get()) and "trace_id" not in vars(record):
        own = span.get_span_context()
        record.__dict__["trace_id"] = trace_id = f"{own.trace_id:032x}"
        record.msg = f"{record.msg} trace_id={trace_id} span_id={own.span_id:016x}"
    return True
