"""Traces from two real scoring processes to a receiver that others wrote: MLflow takes OTLP over HTTP, too."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mlflow import MlflowClient
from mlflow.entities import Span

from mlflow_server import mlflow_server
from unit.scorer.service_process import Service, service

pytestmark = pytest.mark.slow
PARENT = "00f067aa0ba902b7"
NOWHERE = "http://127.0.0.1:9/v1/traces"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("receiver")) as url:
        yield url


@dataclass(frozen=True)
class Pods:
    """A stable pod whose applicants all go to the canary's pod."""

    stable: Service
    canary: Service
    logs: Mapping[str, Path]

    async def score(self, body: bytes, **headers: str) -> dict[str, Any]:
        own = {"content-type": "application/json", **headers}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.stable.url}/v1/score", data=body, headers=own) as answer,
        ):
            assert answer.status == 200
            assert "traceparent" not in answer.headers
            return dict(await answer.json())

    def audited(self, pod: str) -> list[dict[str, Any]]:
        lines = self.logs[pod].read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"audit"')]


@asynccontextmanager
async def pods(model: Path, work: Path, endpoint: str, ratio: float) -> AsyncIterator[Pods]:
    """Run both until the block ends, then stop them in order, which sends their last spans."""
    logs = {pod: work / f"{pod}.log" for pod in ("stable", "canary")}
    common = {
        "tracing_endpoint": endpoint, "tracing_ratio": ratio, "audit_log": True, "decision_log": "require",
        "decision_log_dir": work / "decisions", "drain_seconds": 0,
    }  # fmt: skip
    route = work / "route.json"
    async with AsyncExitStack() as stack:
        canary = await stack.enter_async_context(
            service(model, work / "8", logs["canary"], "8", pod_name="canary", **common)
        )
        share = {"version": "8", "url": canary.url, "weight": 100, "mode": "live", "deadlineMilliseconds": 10_000}
        route.write_text(json.dumps({"generation": 1, "salt": "salt", "canary": share}))
        stable = await stack.enter_async_context(
            service(model, work / "7", logs["stable"], "7", pod_name="stable", route_file=route, **common)
        )
        yield Pods(stable, canary, logs)
        for pod in (stable, canary):
            pod.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(pod.process.wait(), 30) == 0


def applicant(model_folder: Path) -> bytes:
    return json.dumps(json.loads((model_folder / "contract.json").read_bytes())["reference_applicant"]).encode()


def chain(spans: list[Span], name: str) -> list[str]:
    """Return the names from a span up to the first one."""
    by_id = {span.span_id: span for span in spans}
    (span,) = [span for span in spans if span.name == name]
    names = [span.name]
    while (parent := by_id.get(str(span.parent_id))) is not None:
        span = parent
        names.append(span.name)
    return names


@pytest.mark.parametrize(("ratio", "parent"), [(1.0, None), (0.0, PARENT)])
async def test_one_trace_leads_through_router_canary_and_decision_log(
    model_folder: Path, receiver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, parent: str | None
) -> None:
    client = MlflowClient(receiver)
    experiment = client.create_experiment(f"traces at {ratio}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"x-mlflow-experiment-id={experiment}")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-{parent}-01"} if parent else {}
    async with pods(model_folder, tmp_path, f"{receiver}/v1/traces", ratio) as running:
        assert (await running.score(applicant(model_folder), **headers))["served_by"] == "canary"
        assert not running.audited("stable")
        (line,) = running.audited("canary")
        assert parent is None or line["trace_id"] == trace
    spans = client.get_trace(f"tr-{line['trace_id']}", display=False).data.spans
    request = "POST /v1/score"
    for name in ("decode", "score", "decision log"):
        assert chain(spans, name) == [name, request, "canary", request]
    assert len(spans) == 6
    first, second = sorted((span for span in spans if span.name == request), key=lambda span: span.start_time_ns)
    assert first.parent_id == parent
    assert second.span_id == line["span_id"]
    (canary,) = [span for span in spans if span.name == "canary"]
    assert canary.attributes["creditrisk.canary.outcome"] == "ok"
    assert "creditrisk.model.version" not in first.attributes
    assert second.attributes["creditrisk.model.version"] == "8"
    assert second.attributes["creditrisk.role"] == "canary"
    assert second.attributes["http.response.status_code"] == 200


async def test_an_endpoint_that_is_away_costs_requests_nothing_and_one_line_of_the_log(
    model_folder: Path, tmp_path: Path
) -> None:
    async with pods(model_folder, tmp_path, NOWHERE, ratio=1.0) as running:
        for _ in range(10):
            assert (await running.score(applicant(model_folder)))["served_by"] == "canary"
    for log in running.logs.values():
        told = [line for line in log.read_text().splitlines() if "traces: " in line]
        assert len(told) == 1
        assert "opentelemetry" not in log.read_text()
