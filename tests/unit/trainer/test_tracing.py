"""Traces of a training run, with the real SDK: its phases, whose trace it continues, and what is never in it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from conftest import REPOSITORY
from trainer import tracing
from trainer.errors import BadInputError, GateRefusedError
from trainer.settings import parse

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def traced(traceparent: str = "") -> Iterator[Mapping[str, ReadableSpan]]:
    """Yield spans by name; they are there once the block has ended."""
    exporter = InMemorySpanExporter()
    found: dict[str, ReadableSpan] = {}
    try:
        with tracing.traced(SimpleSpanProcessor(exporter), traceparent, {"creditrisk.model.name": "credit-risk"}):
            yield found
    finally:
        found.update({span.name: span for span in exporter.get_finished_spans()})


def parent_id(span: ReadableSpan) -> str | None:
    return f"{span.parent.span_id:016x}" if span.parent else None


def own_id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context
    return f"{context.span_id:016x}"


def test_phases_are_below_the_training_which_continues_the_trace_of_who_started_it() -> None:
    with traced(f"00-{TRACE}-{PARENT}-01") as spans:
        tracing.describe({"mlflow.run_id": "r1"})
        with tracing.phase("prepare"):
            sent = tracing.headers()
        with tracing.phase("fit"):
            tracing.describe({"creditrisk.model.version": "7"})
    training = spans["training"]
    assert parent_id(training) == PARENT
    assert f"{training.context.trace_id:032x}" == TRACE
    assert dict(training.attributes or {}) == {"creditrisk.model.name": "credit-risk", "mlflow.run_id": "r1"}
    assert training.resource.attributes["service.name"] == "training"
    assert parent_id(spans["prepare"]) == parent_id(spans["fit"]) == own_id(training)
    assert dict(spans["fit"].attributes or {}) == {"creditrisk.model.version": "7"}
    assert sent == {"traceparent": f"00-{TRACE}-{own_id(spans['prepare'])}-01"}


@pytest.mark.parametrize("traceparent", ["", "00-nonsense"])
def test_a_training_that_nobody_traced_begins_a_trace(traceparent: str) -> None:
    with traced(traceparent) as spans:
        pass
    assert spans["training"].parent is None


def test_of_an_error_the_class_alone_is_kept() -> None:
    with pytest.raises(GateRefusedError), traced() as spans, tracing.phase("evaluate"):
        raise GateRefusedError("an applicant earns 12345")
    for name in ("training", "evaluate"):
        span = spans[name]
        assert dict(span.attributes or {})["error.type"] == "GateRefusedError"
        assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())


def test_lines_of_the_log_name_the_phase(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("trainer")
    with traced() as spans, tracing.phase("fit"):
        log.warning("slow: %d s", 7)
    log.warning("afterwards")
    context = spans["fit"].get_span_context()
    assert context
    within, after = [record.getMessage() for record in caplog.records]
    assert within == f"slow: 7 s trace_id={context.trace_id:032x} span_id={context.span_id:016x}"
    assert after == "afterwards"


def test_without_an_endpoint_there_are_no_spans_and_nothing_is_loaded() -> None:
    code = """
import sys
from trainer import tracing
with tracing.exported("", "", {}), tracing.phase("fit"):
    tracing.describe({"a": "b"})
    assert tracing.headers() == {}
sys.exit(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    source = {"PYTHONPATH": str(REPOSITORY / "images/training/src")}
    assert subprocess.run([sys.executable, "-c", code], env=source).returncode == 0


def test_an_endpoint_must_be_a_url() -> None:
    with pytest.raises(BadInputError, match="--tracing-endpoint collector:4317: must be a URL"):
        parse(["--data=synthetic", "--tracing-endpoint=collector:4317"], {})
