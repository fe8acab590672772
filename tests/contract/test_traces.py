"""Traces of all parts, sent to a receiver that others wrote: MLflow takes OTLP over HTTP, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI
from mlflow import MlflowClient
from mlflow.entities import Span
from mlflow.exceptions import MlflowException

from decisions.service.tracing import Tracing as ServiceTracing
from decisions.settings import ServeSettings
from localcluster.packages import TRAEFIK, extract
from localcluster.paths import Paths
from mlflow_server import mlflow_server
from processes import free_port, running
from promoter.api.resource import Owner
from promoter.api.status import State
from promoter.promotion import Promotion
from promoter.settings import Settings as OperatorSettings
from promoter.tracing import Tracing
from trainer import tracing as training
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
    async with pods(model_folder, tmp_path, f"{receiver}/v1/traces", ratio) as started:
        assert (await started.score(applicant(model_folder), **headers))["served_by"] == "canary"
        assert not started.audited("stable")
        (line,) = started.audited("canary")
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
    assert second.attributes["creditrisk.decision.id"] == line["decision_id"]
    assert second.attributes["http.response.status_code"] == 200


@contextmanager
def ingress(target: str, endpoint: str, experiment: str, folder: Path) -> Iterator[str]:
    """Run Traefik in front of a service, with the options of docs/tracing.md; yield its address."""
    paths, url = Paths.from_environment(), f"127.0.0.1:{free_port()}"
    (traefik,) = extract(TRAEFIK, paths.cache / "test-traefik", paths, folder / "install.log")
    routes = {"http": {
        "routers": {"scoring": {"rule": "PathPrefix(`/`)", "service": "scoring"}},
        "services": {"scoring": {"loadBalancer": {"servers": [{"url": target}]}}},
    }}  # fmt: skip
    (folder / "routes.yaml").write_text(yaml.safe_dump(routes))
    command = [
        str(traefik), "--global.checknewversion=false", "--global.sendanonymoususage=false",
        f"--entrypoints.web.address={url}", f"--providers.file.filename={folder}/routes.yaml",
        "--tracing.servicename=ingress", "--tracing.samplerate=1", f"--tracing.otlp.http.endpoint={endpoint}",
        f"--tracing.otlp.http.headers.x-mlflow-experiment-id={experiment}",
    ]  # fmt: skip

    def routed() -> bool:
        # Until it has read the routes, it answers 404.
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://{url}/v1/model").status_code == 200
        return False

    with running(command, folder / "traefik.log", routed):
        yield f"http://{url}"


async def test_a_trace_begins_at_the_ingress_which_decides_that_it_is_sampled(
    model_folder: Path, receiver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(receiver)
    experiment = client.create_experiment("ingress")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"x-mlflow-experiment-id={experiment}")
    endpoint = f"{receiver}/v1/traces"
    async with pods(model_folder, tmp_path, endpoint, ratio=0.0) as started:
        with ingress(started.stable.url, endpoint, experiment, tmp_path) as url:
            through = replace(started, stable=replace(started.stable, url=url))
            assert (await through.score(applicant(model_folder)))["served_by"] == "canary"
            (line,) = started.audited("canary")
            spans: list[Span] = []
            deadline = time.monotonic() + 60
            # Ingress and pods send theirs when they like.
            while len(spans) < 7 or "decode" not in {span.name for span in spans}:
                assert time.monotonic() < deadline, [span.name for span in spans]
                await asyncio.sleep(0.2)
                with contextlib.suppress(MlflowException):
                    spans = client.get_trace(f"tr-{line['trace_id']}", display=False).data.spans
    names = chain(spans, "decode")
    assert names[:4] == ["decode", "POST /v1/score", "canary", "POST /v1/score"]
    assert len(names) > 4, "the ingress has spans above the stable pod's"


async def test_one_trace_leads_from_a_turn_of_the_operator_to_the_decisions_service_and_a_training(
    receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(receiver)
    experiment = client.create_experiment("turns")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"x-mlflow-experiment-id={experiment}")
    # Whose lines would name traces from now on.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    endpoint = f"{receiver}/v1/traces"
    operator = Tracing.of(OperatorSettings(tracing_endpoint=endpoint))
    service = ServiceTracing.of(ServeSettings(database_url="postgresql://", permissions={}, tracing_endpoint=endpoint))
    app = FastAPI()

    @app.get("/v1/models/{name}/drift")
    async def drift(name: str) -> str:
        return name

    # Between the operator's HTTP client and the service's ASGI application: what a server of HTTP does.
    async def ask(request: web.Request) -> web.Response:
        transport = httpx.ASGITransport(service.requests(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://decisions") as http:
            answer = await http.get(request.path, headers={"traceparent": request.headers["traceparent"]})
        return web.Response(status=answer.status_code)

    server = TestServer(web.Application())
    server.app.router.add_get("/{path:.*}", ask)
    annotations: dict[str, str] = {}

    async def turn(*_: object) -> None:
        annotations.update(operator.annotations())
        async with session.get(server.make_url("/v1/models/credit-risk/drift")) as answer:
            assert answer.status == 200

    async with server, aiohttp.ClientSession(trace_configs=[operator.requests()]) as session:
        promotion = Promotion(Owner("bank", "loans", "u-1"), {}, State())
        await operator.turns(turn)(None, promotion)  # type: ignore[arg-type]  # this turn needs no adapters
    parent = annotations["creditrisk.io/traceparent"]
    with training.exported(endpoint, parent, {"k8s.job.name": "retraining-1"}), training.phase("fit"):
        pass
    await asyncio.gather(operator.close(), service.close())
    spans = client.get_trace(f"tr-{parent.split('-')[1]}", display=False).data.spans
    assert chain(spans, "GET /v1/models/{name}/drift") == ["GET /v1/models/{name}/drift", "GET 127.0.0.1", "turn"]
    assert chain(spans, "fit") == ["fit", "training", "turn"]
    assert len(spans) == 5


async def test_an_endpoint_that_is_away_costs_requests_nothing_and_one_line_of_the_log(
    model_folder: Path, tmp_path: Path
) -> None:
    async with pods(model_folder, tmp_path, NOWHERE, ratio=1.0) as started:
        for _ in range(10):
            assert (await started.score(applicant(model_folder)))["served_by"] == "canary"
    for log in started.logs.values():
        told = [line for line in log.read_text().splitlines() if "traces: " in line]
        assert len(told) == 1
        assert "opentelemetry" not in log.read_text()
