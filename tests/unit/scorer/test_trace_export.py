"""How spans leave the process: never at a request's expense, and nothing is lost without being counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from scorer.tracing import export
from scorer.tracing.export import TELL_SECONDS, BoundedExport, RareWarnings, SpanMetrics, Spans


class Endpoint(SpanExporter):
    """Takes spans once it is open."""

    def __init__(self, result: SpanExportResult | Exception = SpanExportResult.SUCCESS, *, opened: bool = True) -> None:
        self.result, self.called, self.open = result, threading.Event(), threading.Event()
        if opened:
            self.open.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.called.set()
        self.open.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.open.set()


class Traces:
    """Spans on their way to an endpoint."""

    def __init__(self, endpoint: Endpoint, queue_spans: int = 4) -> None:
        self._registry = CollectorRegistry()
        self.export = BoundedExport(endpoint, SpanMetrics(self._registry), queue_spans)
        self.spans = Spans(self.export, "pod-1")

    def end(self, count: int) -> None:
        for _ in range(count):
            self.spans.tracer.start_span("request").end()

    def counted(self, outcome: str) -> float | None:
        return self._registry.get_sample_value("scorer_trace_spans_total", {"outcome": outcome})

    @property
    def waiting(self) -> float | None:
        return self._registry.get_sample_value("scorer_trace_queue_spans")


def test_spans_beyond_the_queue_are_dropped_and_counted_while_an_export_hangs() -> None:
    endpoint = Endpoint(opened=False)
    traces = Traces(endpoint)
    traces.end(1)
    sending = threading.Thread(target=traces.export.force_flush)
    sending.start()
    assert endpoint.called.wait(10)
    # Returns, although nothing can be sent.
    traces.end(4 + 3)
    assert (traces.waiting, traces.counted("dropped"), traces.counted("exported")) == (4, 3, 0)
    endpoint.open.set()
    sending.join()
    traces.export.force_flush()
    assert (traces.waiting, traces.counted("dropped"), traces.counted("exported")) == (0, 3, 5)
    traces.end(1)
    traces.export.shutdown()
    assert traces.counted("exported") == 6, "room again, and what waits at the end is sent"


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, ValueError("unexpected")])
def test_spans_that_the_endpoint_does_not_take_are_counted(
    result: SpanExportResult | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("opentelemetry"), "disabled", True)
    traces = Traces(Endpoint(result))
    traces.end(2)
    traces.export.force_flush()
    assert (traces.waiting, traces.counted("failed"), traces.counted("exported")) == (0, 2, 0)
    traces.export.shutdown()


async def test_the_end_of_the_process_does_not_wait_for_an_endpoint_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CLOSE_SECONDS", 0.05)
    endpoint = Endpoint(opened=False)
    traces = Traces(endpoint)
    traces.end(1)
    await traces.spans.close()
    assert endpoint.called.is_set()
    assert not endpoint.open.is_set()
    assert traces.counted("exported") == 0
    endpoint.open.set()


def test_one_message_a_minute_is_logged_of_an_endpoint_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    warnings = RareWarnings(lambda: now)
    for moment in (0.0, 1.0, TELL_SECONDS - 0.1, TELL_SECONDS, TELL_SECONDS + 1):
        now = 100.0 + moment
        warnings.emit(logging.makeLogRecord({"msg": "failed at %s", "args": (moment,)}))
    assert caplog.messages == ["traces: failed at 0.0", f"traces: failed at {TELL_SECONDS}"]
