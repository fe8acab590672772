"""Traces of the service's requests, with the real SDK: whose trace they continue, and what is never in them."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.responses import Response

from conftest import REPOSITORY
from decisions.service.boundary import Boundary, Metrics
from decisions.service.tracing import Tracing, add_ids

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Site:
    """The service's boundary around one endpoint, and the spans."""

    http: httpx.AsyncClient
    exporter: InMemorySpanExporter
    tracing: Tracing

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def site(ratio: float = 1.0) -> Site:
    app = FastAPI()

    @app.get("/v1/applicants/{name}")
    async def applicant(name: str) -> Response:
        if name == "bad":
            raise RuntimeError(f"{name} earns 12345")
        return Response(status_code=503 if name == "late" else 200)

    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), ratio)
    transport = httpx.ASGITransport(tracing.requests(Boundary(app, Metrics(), 1024)), raise_app_exceptions=False)
    return Site(httpx.AsyncClient(transport=transport, base_url="http://decisions"), exporter, tracing)


async def test_a_request_continues_the_trace_of_who_asks_and_has_nothing_of_an_applicant() -> None:
    found = site()
    await found.http.get("/v1/applicants/smith?year=1970", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    (span,) = found.spans
    assert span.name == "GET /v1/applicants/{name}"
    assert span.parent
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET", "http.response.status_code": 200, "http.route": "/v1/applicants/{name}",
    }  # fmt: skip
    assert "smith" not in span.to_json()
    assert "1970" not in span.to_json()
    assert span.resource.attributes["service.name"] == "decisions"


@pytest.mark.parametrize(
    ("traceparent", "spans"), [("", 0), (f"00-{TRACE}-{PARENT}-00", 0), (f"00-{TRACE}-{PARENT}-01", 1)]
)
async def test_the_parent_decides_and_else_the_ratio(traceparent: str, spans: int) -> None:
    found = site(ratio=0.0)
    await found.http.get("/v1/applicants/smith", headers={"traceparent": traceparent} if traceparent else {})
    assert len(found.spans) == spans


@pytest.mark.parametrize(("name", "error"), [("late", "503"), ("bad", "RuntimeError")])
async def test_a_failure_has_a_class_and_no_message(name: str, error: str) -> None:
    found = site()
    await found.http.get(f"/v1/applicants/{name}")
    (span,) = found.spans
    assert dict(span.attributes or {})["error.type"] == error
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, None, ())


async def test_the_requests_line_in_the_log_names_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "decisions.requests")
    caplog.handler.addFilter(add_ids)
    found = site()
    try:
        await found.http.get("/v1/applicants/smith", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    finally:
        caplog.handler.removeFilter(add_ids)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "decisions.requests"]
    context = found.spans[0].get_span_context()
    assert context
    assert line.endswith(f"trace_id={TRACE} span_id={context.span_id:016x}")


async def test_what_waits_is_sent_at_the_end() -> None:
    found = site()
    await found.http.get("/v1/applicants/smith")
    await found.tracing.close()
    await found.http.get("/v1/applicants/smith")
    assert len(found.spans) == 1


def test_without_an_endpoint_the_sdk_is_not_loaded() -> None:
    # FastAPI imports the bare API.
    code = "import sys, decisions.service.process; sys.exit('opentelemetry.sdk' in sys.modules)"
    sources = {"PYTHONPATH": f"{REPOSITORY / 'images/decisions/src'}:{REPOSITORY / 'images/api/src'}"}
    assert subprocess.run([sys.executable, "-c", code], env=sources).returncode == 0
