"""Traces of requests, with the real SDK: which spans there are, whose trace they continue, what is never in them."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, format_span_id, format_trace_id
from pydantic import ValidationError

from scorer.app import Parts, create_app
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.client import FORWARDED
from scorer.canary.route import CanaryRoute, Route
from scorer.canary.router import Router
from scorer.decision_log.metrics import LogMetrics
from scorer.decision_log.writer import SegmentWriter
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from scorer.tracing.export import Spans
from scorer.tracing.parts import Traced, add_ids
from scorer.tracing.requests import parent_of
from unit.scorer.decision_segments import POD
from unit.scorer.protocols import PROTOCOLS, sample
from unit.scorer.service_process import SOURCES
from unit.scorer.unpaired import Unpaired

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, Identity("credit-risk", "7", "run", {}, {}))


@pytest.fixture
def applicant(model: Model) -> dict[str, Any]:
    return dict(model.contract.reference_applicant)


@dataclass(frozen=True)
class Pod:
    """A pod that traces, and where its spans are."""

    http: httpx.AsyncClient
    exporter: InMemorySpanExporter
    metrics: Metrics

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@asynccontextmanager
async def pod(
    model: Model | None, ratio: float = 1.0, canary: CanaryRoute | None = None, require_in: Path | None = None,
    **settings: Any,
) -> AsyncIterator[Pod]:  # fmt: skip
    exporter, metrics = InMemorySpanExporter(), Metrics()
    traced = Traced(Spans(SimpleSpanProcessor(exporter), "pod-1"), ratio)
    parts = Parts(traced.single, traced.batches, traced.audit_log, traced.requests)
    log = None
    if require_in:
        writer = SegmentWriter(require_in, POD, 2**30)
        log = traced.decision_log(writer, "require", LogMetrics(metrics.registry))
        log.start()
    async with aiohttp.ClientSession() as session:
        router = Router(session, ArmMetrics(metrics.registry), Unpaired(), "pod-1", traced.canary_client)
        router.apply(Route(1, "salt", None, canary))
        app = create_app(
            Settings(pod_name="pod-1", **settings), ModelSlot(model), metrics, router, decisions=log, parts=parts
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
            yield Pod(http, exporter, metrics)
    if log:
        await log.close()
    await traced.close()


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context
    return context


def tree(spans: Sequence[ReadableSpan]) -> dict[str, str | None]:
    """Return the name of each span's parent, by name; the header's is `client`."""
    names = {format_span_id(context_of(span).span_id): span.name for span in spans}
    names[PARENT] = "client"
    return {span.name: names[format_span_id(span.parent.span_id)] if span.parent else None for span in spans}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_one_span_with_its_decoding_scoring_and_logging_below(
    model: Model, applicant: dict[str, Any], tmp_path: Path
) -> None:
    async with pod(model, require_in=tmp_path) as running:
        found = await running.http.post("/v1/score?reasons=2", json=applicant, headers={"traceparent": SAMPLED})
        assert found.status_code == 200
        assert not {"traceparent", "tracestate"} & set(found.headers)
        assert tree(running.spans) == {
            "POST /v1/score": "client", "decode": "POST /v1/score", "score": "POST /v1/score",
            "decision log": "POST /v1/score",
        }  # fmt: skip
        request = running.span("POST /v1/score")
    assert {format_trace_id(context_of(span).trace_id) for span in running.spans} == {TRACE}
    assert request.kind is SpanKind.SERVER
    assert attributes(request) == {
        "http.request.method": "POST", "url.scheme": "http", "network.protocol.version": "1.1",
        "http.route": "/v1/score", "http.response.status_code": 200,
        "creditrisk.endpoint": "score", "creditrisk.role": "champion", "creditrisk.rows": 1,
        "creditrisk.model.name": "credit-risk", "creditrisk.model.version": "7",
        "creditrisk.decision.id": found.json()["decision_id"],
    }  # fmt: skip
    assert attributes(running.span("score")) == {"creditrisk.batch.size": 1}
    assert {"service.name": "scoring", "k8s.pod.name": "pod-1"}.items() <= dict(request.resource.attributes).items()


async def test_applications_that_are_scored_together_say_how_many_they_were(
    model: Model, applicant: dict[str, Any]
) -> None:
    async with pod(model) as running:
        await asyncio.gather(*[running.http.post("/v1/score", json=applicant) for _ in range(3)])
        sizes = [attributes(span)["creditrisk.batch.size"] for span in running.spans if span.name == "score"]
        assert len(sizes) == 3
        assert max(sizes) > 1
        assert len({context_of(span).trace_id for span in running.spans}) == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_every_protocol_is_traced(model: Model, applicant: dict[str, Any], protocol: str) -> None:
    form = sample(protocol, [applicant] * 3)
    async with pod(model) as running:
        found = await running.http.post(
            form.path, content=form.body, headers={"Content-Type": form.media_type, **form.headers}
        )
        assert found.status_code == 200
        (request,) = [span for span in running.spans if span.kind is SpanKind.SERVER]
        assert {name: parent for name, parent in tree(running.spans).items() if name != request.name} == {
            "decode": request.name, "score": request.name,
        }  # fmt: skip
    expected = "/v2/models/{name}/infer" if form.path.startswith("/v2") else form.path
    assert request.name == f"POST {expected}"
    assert attributes(request)["creditrisk.rows"] == (1 if protocol == "single" else 3)


async def test_the_rows_of_a_stream_are_those_of_all_its_parts(model: Model, applicant: dict[str, Any]) -> None:
    body = (json.dumps(applicant) + "\n") * 600
    async with pod(model) as running:
        await running.http.post("/v1/score/batch", content=body, headers={"Content-Type": "application/x-ndjson"})
        assert attributes(running.span("POST /v1/score/batch"))["creditrisk.rows"] == 600
        assert [span.name for span in running.spans].count("decode") == 3


@pytest.mark.parametrize("header", [
    "", "garbage", f"00-{TRACE}-{PARENT}", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", "\xff" * 10,
    "0" * 4000,
])  # fmt: skip
async def test_a_malformed_parent_is_ignored(model: Model, applicant: dict[str, Any], header: str) -> None:
    async with pod(model) as running:
        found = await running.http.post(
            "/v1/score",
            json=applicant,
            headers=[(b"traceparent", header.encode("latin-1"))],
        )
        assert found.status_code == 200
        assert running.span("POST /v1/score").parent is None


def test_several_parents_are_as_good_as_none() -> None:
    given = (b"traceparent", SAMPLED.encode())
    assert parent_of([given, (b"tracestate", b"a=1")])
    assert not parent_of([given, given])
    assert not parent_of([(b"tracestate", b"a=1")])


async def test_a_pod_does_not_begin_a_trace_of_what_another_pod_sent_it(
    model: Model, applicant: dict[str, Any]
) -> None:
    async with pod(model) as running:
        await running.http.post("/v1/score", json=applicant, headers={FORWARDED: "pod-0"})
        assert not running.spans
        await running.http.post("/v1/score", json=applicant, headers={FORWARDED: "pod-0", "traceparent": SAMPLED})
        assert attributes(running.span("POST /v1/score"))["creditrisk.role"] == "canary"


@pytest.mark.parametrize(("ratio", "header", "traced"), [
    (0.0, SAMPLED, True), (1.0, UNSAMPLED, False), (0.0, None, False), (1.0, None, True),
])  # fmt: skip
async def test_a_parent_decides_whether_a_request_is_sampled_and_else_the_ratio_does(
    model: Model, applicant: dict[str, Any], ratio: float, header: str | None, traced: bool
) -> None:
    async with pod(model, ratio) as running:
        for path, body in (("/v1/score", applicant), ("/v1/score/batch", [applicant])):
            headers = {"traceparent": header} if header else {}
            assert (await running.http.post(path, json=body, headers=headers)).status_code == 200
        assert bool(running.spans) is traced


async def test_pages_health_checks_and_descriptions_are_not_traced(model: Model) -> None:
    async with pod(model) as running:
        for path in ("/", "/ping", "/v1/model", "/v2/health/ready"):
            assert (await running.http.get(path, headers={"traceparent": SAMPLED})).status_code == 200
        assert not running.spans


async def test_nothing_of_an_applicant_is_in_a_span(model: Model, applicant: dict[str, Any]) -> None:
    secret = "jane-doe-4711"
    wrong = {**applicant, "applicant_id": secret, "grade_subgrade": secret, secret: secret}
    async with pod(model) as running:
        requests = [
            ("/v1/score", wrong, {"X-Applicant-Id": secret, "X-Request-Id": secret}, 422),
            ("/v1/score/batch", [wrong], {}, 200),
            (f"/{secret}?{secret}", applicant, {}, 404),
            ("/invocations", {secret: secret}, {"tracestate": f"a={secret}", "baggage": f"a={secret}"}, 422),
        ]
        for path, body, headers, status in requests:
            assert (await running.http.post(path, json=body, headers=headers)).status_code == status
        spans = running.spans
    assert {span.name for span in spans} >= {"POST", "POST /v1/score", "POST /invocations", "decode"}
    for span in spans:
        assert secret not in span.to_json()
        assert not span.events


async def test_an_invalid_application_is_the_clients_error_not_the_services(
    model: Model, applicant: dict[str, Any]
) -> None:
    async with pod(model) as running:
        await running.http.post("/v1/score", json={**applicant, "credit_score": 9000})
        assert attributes(running.span("decode"))["error.type"] == "Problem"
        request = running.span("POST /v1/score")
    assert attributes(request)["http.response.status_code"] == 422
    assert request.status.status_code is StatusCode.UNSET


async def test_a_5xx_is_an_error(applicant: dict[str, Any]) -> None:
    async with pod(None) as running:
        assert (await running.http.post("/v1/score", json=applicant)).status_code == 503
        request = running.span("POST /v1/score")
    assert request.status.status_code is StatusCode.ERROR
    assert attributes(request)["error.type"] == "503"


async def test_a_fallback_shows_what_the_canary_did_and_who_answered(model: Model, applicant: dict[str, Any]) -> None:
    route = CanaryRoute("8", "http://127.0.0.1:9", 100, "live", 500)
    async with pod(model, canary=route) as running:
        assert (await running.http.post("/v1/score", json=applicant)).json()["model"]["version"] == "7"
        canary, request = running.span("canary"), running.span("POST /v1/score")
        assert tree(running.spans)["canary"] == request.name
    assert canary.kind is SpanKind.CLIENT
    assert canary.status.status_code is StatusCode.ERROR
    assert attributes(canary) == {
        "http.request.method": "POST", "creditrisk.canary.version": "8", "creditrisk.canary.outcome": "unreachable",
        "creditrisk.canary.fallback": True, "error.type": "unreachable",
    }  # fmt: skip
    assert attributes(request)["creditrisk.role"] == "fall-back"


@pytest.mark.parametrize("header", [SAMPLED, UNSAMPLED])
async def test_the_audit_log_names_the_trace_whether_sampled_or_not(
    model: Model, applicant: dict[str, Any], header: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with pod(model, audit_log=True) as running:
        await running.http.post("/v1/score", json=applicant, headers={"traceparent": header})
    written = json.loads(capfdbinary.readouterr().out)
    assert (written["trace_id"], written["trace_flags"]) == (TRACE, header[-2:])
    assert len(written["span_id"]) == 16
    assert written["span_id"] != PARENT


async def test_without_tracing_the_audit_log_names_none(
    model: Model, applicant: dict[str, Any], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    app = create_app(Settings(audit_log=True), ModelSlot(model), Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        await http.post("/v1/score", json=applicant, headers={"traceparent": SAMPLED})
    assert not {"trace_id", "span_id", "trace_flags"} & set(json.loads(capfdbinary.readouterr().out))


async def test_a_line_of_the_log_names_the_request_it_is_about(
    model: Model, applicant: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with two handlers, each of which has the filter.
    again = partial(add_ids)
    caplog.handler.addFilter(add_ids)
    caplog.handler.addFilter(again)
    try:
        monkeypatch.setattr(Metrics, "scored", None)
        async with pod(model) as running:
            found = await running.http.post("/v1/score", json=applicant, headers={"traceparent": SAMPLED})
            assert found.status_code == 500
        logging.getLogger("scorer").error("outside of %s", "requests")
    finally:
        caplog.handler.removeFilter(add_ids)
        caplog.handler.removeFilter(again)
    inside, outside = caplog.messages
    assert inside.startswith(f"POST /v1/score failed trace_id={TRACE} span_id=")
    assert inside.count("trace_id=") == 1
    assert outside == "outside of requests"


@pytest.mark.parametrize("wrong", ["collector:4318", "ftp://collector/v1/traces", "http://", "http://c/v1/traces?a=1"])
def test_an_endpoint_that_is_no_url_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="tracing_endpoint"):
        Settings(tracing_endpoint=wrong)


def test_without_an_endpoint_nothing_of_tracing_is_loaded() -> None:
    # The framework underneath imports the bare API.
    listing = "import sys, scorer.process; print(*sys.modules)"
    command = [sys.executable, "-c", listing]
    modules = subprocess.run(command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=True)
    loaded = modules.stdout.split()
    assert "scorer.process" in loaded
    assert not [name for name in loaded if name.startswith(("scorer.tracing", "opentelemetry.sdk", "requests"))]


async def test_traces_of_the_framework_stay_off(model: Model, applicant: dict[str, Any]) -> None:
    """It would trace what this service traces itself, with the paths and values that it leaves out."""
    async with pod(model) as running:
        await running.http.post("/invocations", json={"inputs": {name: [value] for name, value in applicant.items()}})
        assert {span.instrumentation_scope.name for span in running.spans if span.instrumentation_scope} == {"scorer"}
        assert len([span for span in running.spans if span.kind is SpanKind.SERVER]) == 1
