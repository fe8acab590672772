"""What a span of this service holds, and how one begins: never a value of an application, nor an error's message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

ENDPOINT, ROLE, ROWS = "creditrisk.endpoint", "creditrisk.role", "creditrisk.rows"
ROWS_REFUSED, BATCH_SIZE = "creditrisk.rows.refused", "creditrisk.batch.size"
MODEL_NAME, MODEL_VERSION = "creditrisk.model.name", "creditrisk.model.version"
CANARY_VERSION, CANARY_OUTCOME = "creditrisk.canary.version", "creditrisk.canary.outcome"
CANARY_FALLBACK = "creditrisk.canary.fallback"
DECISION = "creditrisk.decision.id"


@contextlib.contextmanager
def child(
    tracer: Tracer,
    name: str,
    attributes: Mapping[str, AttributeValue] | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """Yield a span under the current request's; one that keeps nothing unless the request is sampled.

    An error becomes the name of its class: its message may quote what the applicant sent.
    """
    current = trace.get_current_span()
    if not current.is_recording():
        yield current
        return
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            fail(span, type(error).__name__)
            raise


def fail(span: Span, error: str) -> None:
    """Mark a span as failed, by a class of errors."""
    span.set_attribute(ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR))


def ids() -> dict[str, str]:
    """Return the current span's ids as OpenTelemetry names them in logs that are not its own; {} outside of a request.

    A request that continues a trace has them even if that is not sampled.
    """
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "trace_flags": f"{context.trace_flags:02x}",
    }
