"""How spans leave the process: from a bounded queue, in a thread of its own, and never at a request's expense."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, Counter, Gauge

log = logging.getLogger(__name__)
# Spans that wait: about 4 MB at most. At ten sampled requests per second, more than half a minute of them.
QUEUE_SPANS = 2048
# So many are sent in one request. Encoding them takes the interpreter from the event loop for some milliseconds.
BATCH_SPANS = 256
SCHEDULE_SECONDS = 2.0
# For one batch, with all attempts. Beyond that it is lost.
EXPORT_SECONDS = 5.0
# For so long the end of the process waits for the last spans, while the decision log writes its last groups.
CLOSE_SECONDS = 3.0
# Of the exporter's messages, at most one is logged in this time.
TELL_SECONDS = 60.0


class SpanMetrics:
    """What became of spans."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Report all outcomes at zero."""
        spans = Counter("scorer_trace_spans_total", "Spans of sampled requests by what became of them", ["outcome"],
                        registry=registry)  # fmt: skip
        self.exported, self.failed, self.dropped = map(spans.labels, ("exported", "failed", "dropped"))
        self.waiting = Gauge("scorer_trace_queue_spans", "Spans that wait to be exported", registry=registry)


class BoundedExport(SpanProcessor):
    """Hands ended spans to the exporting thread; drops and counts them if too many wait.

    The SDK's own queue drops the oldest ones and does not count them, so this one never lets it fill.
    """

    def __init__(self, exporter: SpanExporter, metrics: SpanMetrics, queue_spans: int = QUEUE_SPANS) -> None:
        """Take what sends spans, where to count, and how many may wait."""
        self._metrics, self._limit = metrics, queue_spans
        self._lock, self._waiting = threading.Lock(), 0
        self._batches = BatchSpanProcessor(
            _CountedExporter(exporter, metrics, self._taken),
            # More than can wait: one batch may have been taken, and not yet be counted as such.
            max_queue_size=queue_spans + BATCH_SPANS,
            schedule_delay_millis=SCHEDULE_SECONDS * 1000,
            max_export_batch_size=BATCH_SPANS,
        )
        metrics.waiting.set_function(lambda: self._waiting)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing yet."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span, or drop it; any thread may do so, and none waits."""
        with self._lock:
            full = self._waiting >= self._limit
            self._waiting += not full
        if full:
            self._metrics.dropped.inc()
        else:
            self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send what waits."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what waits now."""
        return self._batches.force_flush(timeout_millis)

    def _taken(self, spans: int) -> None:
        with self._lock:
            self._waiting -= spans


class _CountedExporter(SpanExporter):
    """Counts what another exporter did."""

    def __init__(self, exporter: SpanExporter, metrics: SpanMetrics, taken: Callable[[int], None]) -> None:
        self._exporter, self._metrics, self._taken = exporter, metrics, taken

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        self._taken(len(spans))
        try:
            result = self._exporter.export(spans)
        finally:
            counter = self._metrics.exported if result is SpanExportResult.SUCCESS else self._metrics.failed
            counter.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Spans:
    """Makes spans and sends them."""

    def __init__(self, export: SpanProcessor, pod: str) -> None:
        """Take where spans go, and this pod's name.

        A span is kept unless its parent, in this process or in another, is not sampled.
        """
        resource = Resource.create({"service.name": "scoring", "service.instance.id": pod, "k8s.pod.name": pod})
        # Not the process's global provider: the frameworks underneath would begin to trace, too.
        self._provider = TracerProvider(sampler=ParentBased(ALWAYS_ON), resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(export)
        self.tracer: Tracer = self._provider.get_tracer("scorer")

    async def close(self) -> None:
        """Send what waits, for a few seconds at most; what is left then goes with the process."""
        thread = threading.Thread(target=self._provider.shutdown, name="end-of-traces", daemon=True)
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join, CLOSE_SECONDS)


class RareWarnings(logging.Handler):
    """Logs one of a library's messages a minute: an endpoint that is away would otherwise fill the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take what tells the seconds."""
        super().__init__(logging.WARNING)
        self._clock, self._silent_until = clock, float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Log a message, or leave it out."""
        now = self._clock()
        if now >= self._silent_until:
            self._silent_until = now + TELL_SECONDS
            log.warning("traces: %s", record.getMessage())
