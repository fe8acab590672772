"""Traces of turns, with the real SDK: which spans there are, what is sent with requests, and what is never in them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags, format_span_id, format_trace_id

from promoter.api.resource import Owner
from promoter.api.status import Phase, State
from promoter.errors import RetryableError
from promoter.promotion import Adapters, Promotion
from promoter.settings import Settings
from promoter.tracing import TRACEPARENT_ANNOTATION, Tracing, add_ids
from unit.promoter.test_main import SOURCES

Ask = Callable[[str], Awaitable[Any]]
ADAPTERS: Adapters = None  # type: ignore[assignment]  # the turns here need none


@dataclass
class Site:
    """A server, the operator's session, and the spans."""

    tracing: Tracing
    exporter: InMemorySpanExporter
    session: aiohttp.ClientSession
    url: str
    received: list[str | None]
    promotion: Promotion = field(default_factory=lambda: Promotion(Owner("bank", "loans", "u-1"), {}, State()))

    async def turn(self, *paths: str, error: Exception | None = None) -> None:
        async def turn(_: Adapters, promotion: Promotion) -> None:
            promotion.state = State(phase=Phase.PROGRESSING)
            for path in paths:
                async with self.session.get(f"{self.url}{path}"):
                    pass
            if error:
                raise error

        await self.tracing.turns(turn)(ADAPTERS, self.promotion)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@asynccontextmanager
async def site(ratio: float = 1.0) -> AsyncIterator[Site]:
    received: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(request.headers.get("traceparent"))
        return web.Response(status=int(request.match_info["status"]))

    app = web.Application()
    app.router.add_get("/{status}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), ratio, "operator-0")
    async with aiohttp.ClientSession(trace_configs=[tracing.requests()]) as session:
        yield Site(tracing, exporter, session, f"http://127.0.0.1:{runner.addresses[0][1]}", received)
    await runner.cleanup()


def context_of(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found
    return found


def traceparent_of(span: ReadableSpan) -> str:
    own = context_of(span)
    assert own.trace_flags.sampled
    return f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{own.trace_flags:02x}"


async def test_a_turn_is_a_span_and_its_requests_are_below_it() -> None:
    async with site() as found:
        await found.turn("/200?token=secret")
    turn, request = found.spans["turn"], found.spans["GET 127.0.0.1"]
    assert dict(turn.attributes or {}) == {
        "creditrisk.promotion.namespace": "bank", "creditrisk.promotion.name": "loans",
        "creditrisk.promotion.phase": "Progressing",
    }  # fmt: skip
    assert turn.parent is None
    assert request.parent
    assert (request.parent.span_id, request.kind) == (context_of(turn).span_id, SpanKind.CLIENT)
    attributes = dict(request.attributes or {})
    assert (attributes["url.path"], attributes["http.response.status_code"]) == ("/200", 200)
    assert "secret" not in str([turn.to_json(), request.to_json()])
    assert turn.resource.attributes["service.name"] == "operator"
    assert turn.resource.attributes["k8s.pod.name"] == "operator-0"
    assert found.received == [traceparent_of(request)]


@pytest.mark.parametrize(("status", "failed"), [(404, False), (409, False), (503, True)])
async def test_only_a_servers_error_is_a_failed_request(status: int, failed: bool) -> None:
    async with site() as found:
        await found.turn(f"/{status}")
    request = found.spans["GET 127.0.0.1"]
    assert (request.status.status_code is StatusCode.ERROR) is failed
    assert dict(request.attributes or {}).get("error.type") == (str(status) if failed else None)


async def test_of_an_error_the_class_alone_is_kept() -> None:
    async with site() as found:
        with pytest.raises(RetryableError):
            await found.turn(error=RetryableError("the answer was: secret"))
    turn = found.spans["turn"]
    assert dict(turn.attributes or {})["error.type"] == "RetryableError"
    assert (turn.status.status_code, turn.status.description, turn.events) == (StatusCode.ERROR, None, ())


async def test_a_request_that_is_not_answered_is_a_failed_span() -> None:
    async with site() as found:
        found.url = "http://127.0.0.1:9"
        with pytest.raises(aiohttp.ClientConnectionError):
            await found.turn("/200")
    assert dict(found.spans["GET 127.0.0.1"].attributes or {})["error.type"] == "ClientConnectorError"
    assert dict(found.spans["turn"].attributes or {})["error.type"] == "ClientConnectorError"


async def test_a_turn_that_is_not_sampled_has_no_spans_and_says_so_to_others() -> None:
    async with site(ratio=0.0) as found:
        await found.turn("/200")
    assert not found.spans
    (sent,) = found.received
    assert sent
    assert not int(sent[-2:], 16) & TraceFlags.SAMPLED


async def test_pods_that_a_turn_starts_and_its_lines_in_the_log_name_its_trace() -> None:
    told: list[str] = []
    annotations: list[dict[str, str]] = []

    async def turn(*_: object) -> None:
        record = logging.LogRecord("promoter", logging.INFO, "", 1, "%s: started", ("bank/loans",), None)
        assert add_ids(record)
        told.append(record.getMessage())
        annotations.append(found.tracing.annotations())

    async with site() as found:
        await found.tracing.turns(turn)(ADAPTERS, found.promotion)
    _, trace, span, _ = traceparent_of(found.spans["turn"]).split("-")
    assert told == [f"bank/loans: started trace_id={trace} span_id={span}"]
    assert annotations == [{TRACEPARENT_ANNOTATION: traceparent_of(found.spans["turn"])}]
    assert found.tracing.annotations() == {}
    record = logging.LogRecord("promoter", logging.INFO, "", 1, "outside", (), None)
    assert add_ids(record)
    assert record.getMessage() == "outside"


async def test_what_waits_is_sent_at_the_end() -> None:
    async with site() as found:
        await found.turn()
        await found.tracing.close()
        await found.turn()
    assert len(found.exporter.get_finished_spans()) == 1


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    code = "import sys, promoter.__main__; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCES)}).returncode == 0


def test_an_endpoint_must_be_a_url() -> None:
    with pytest.raises(ValueError, match="tracing_endpoint"):
        Settings(tracing_endpoint="collector:4317")
