"""The answers of pods and Prometheus, read as numbers or as the reason why there are none."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from promoter.adapters.metrics import ROUTE_GENERATION, SERIES, HttpMetrics, parse
from promoter.decision.readiness import Readiness, ReadinessCode
from promoter.ports import Pod

CONTRACTS = Path(__file__).parents[3] / "contracts"

TEXT = """\
# TYPE scorer_route_generation gauge
scorer_route_generation 7.0
# TYPE scorer_arm_requests counter
scorer_arm_requests_total{arm="canary",version="2",outcome="ok"} 40.0
scorer_arm_requests_total{arm="canary",version="3",outcome="ok"} 99.0
scorer_arm_requests_total{arm="stable",version="1",outcome="ok"} 400.0
# TYPE scorer_pair_decisions counter
scorer_pair_decisions_total{version="2",change="both_approve"} 5.0
scorer_pair_decisions_total{version="3",change="both_approve"} 7.0
"""


def test_only_the_two_versions_of_the_rollout_are_counted() -> None:
    assert parse(TEXT, "1", "2") == (
        7, {"canary/outcome/ok": 40.0, "stable/outcome/ok": 400.0, "pair/decision/both_approve": 5.0}
    )  # fmt: skip


def test_the_series_that_are_read_are_those_that_scoring_pods_promise() -> None:
    promised: dict[str, tuple[str, set[str]]] = {}
    for metric in json.loads((CONTRACTS / "metrics.json").read_text())["metrics"]:
        bucket = metric["type"] == "histogram"
        name = f"{metric['name']}_bucket" if bucket else metric["name"]
        promised[name] = (metric["type"], {*metric["labels"], *({"le"} if bucket else ())})
    assert {ROUTE_GENERATION, *SERIES} == promised.keys()
    for name, series in SERIES.items():
        assert {*series.labels, "version"} == promised[name][1] - {"arm"}


def test_the_golden_exposition_is_read() -> None:
    text = (CONTRACTS / "golden" / "scoring-pod.prom").read_text()
    assert parse(text, "3", "4") == (1764300000, {
        "stable/outcome/ok": 950, "canary/outcome/ok": 48, "canary/outcome/timeout": 2,
        "stable/seconds/0.001": 900, "stable/seconds/+Inf": 950, "canary/seconds/0.001": 40, "canary/seconds/+Inf": 50,
        "canary/score/0.5": 45, "canary/score/+Inf": 48, "canary/decision/approve": 45, "canary/decision/decline": 3,
        "pair/decision/both_approve": 44, "pair/decision/approve_to_decline": 3, "pair/decision/decline_to_approve": 1,
        "pair/score/0.1/0.15": 47, "pair/score/0.95/+Inf": 1, "pair/rise": 2.5, "pair/fall": 0.25,
        "pair/squares": 0.125, "pair/segment/marital_status/Single/both_approve": 44,
        "pair/segment/marital_status/Divorced \N{DIVISION SLASH} widowed/approve_to_decline": 3, "pair/reason/same": 9,
        "pair/reason/different": 1,
    })  # fmt: skip


def test_short_names_can_be_split_whatever_features_and_values_are_called() -> None:
    names = [("a/b", "c"), ("a", "b/c")]
    labels = [f'version="2",feature="{feature}",value="{value}",change="both_approve"' for feature, value in names]
    text = "".join(f"scorer_pair_segments_total{{{found}}} 1.0\n" for found in labels)
    counters = parse(f"# TYPE scorer_pair_segments counter\n{text}", "1", "2")[1]
    split = [name.split("/")[2:4] for name in counters]
    assert split == [["a\N{DIVISION SLASH}b", "c"], ["a", "b\N{DIVISION SLASH}c"]]


@pytest.fixture(params=["127.0.0.1", "::1"])
async def pod(request: pytest.FixtureRequest) -> AsyncIterator[tuple[HttpMetrics, Pod, dict[str, Any]]]:
    """Yield a reader, a pod, and what the pod answers by path: status and body."""
    answers: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.Response:
        status, body = answers[request.path]
        return web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(
            body, status=status)  # fmt: skip

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, request.param, 0).start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        yield HttpMetrics(session), Pod("scoring-0", request.param, port, True, 5.0, None), answers
    await runner.cleanup()


async def test_a_pods_metrics_readiness_and_contract_are_read(pod: tuple[HttpMetrics, Pod, dict[str, Any]]) -> None:
    metrics, scoring, answers = pod
    rejected = json.loads((CONTRACTS / "golden" / "readiness-artifact-rejected.json").read_text())
    answers |= {"/metrics": (200, TEXT), "/readyz": (503, rejected), "/v1/model": (200, {"contract": {"features": []}})}
    reading = await metrics.read(scoring, "1", "2")
    assert (reading.generation, reading.counters["canary/outcome/ok"], reading.error) == (7, 40.0, "")
    assert (await metrics.readiness(scoring)).code == ReadinessCode.ARTIFACT_REJECTED
    assert await metrics.contract(scoring) == {"features": []}


async def test_a_pod_that_answers_with_something_else_is_an_error_or_says_nothing(
    pod: tuple[HttpMetrics, Pod, dict[str, Any]],
) -> None:
    metrics, scoring, answers = pod
    answers |= {"/metrics": (500, "away"), "/readyz": (502, "<html>"), "/v1/model": (200, {"model": 1})}
    assert "500" in (await metrics.read(scoring, "1", "2")).error
    assert await metrics.readiness(scoring) == Readiness()
    assert await metrics.contract(scoring) == {}


@pytest.fixture
async def prometheus() -> AsyncIterator[tuple[HttpMetrics, str, dict[str, object]]]:
    answers: dict[str, object] = {}

    async def answer(request: web.Request) -> web.Response:
        assert request.query["query"] == "up"
        return web.json_response(answers["next"])

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield HttpMetrics(session), f"http://127.0.0.1:{runner.addresses[0][1]}", answers
    await runner.cleanup()


def vector(*values: str) -> dict[str, object]:
    result = [{"value": [0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (vector("0.25"), 0.25),
        ({"status": "success", "data": {"resultType": "scalar", "result": [0, "3"]}}, 3.0),
        (vector("1", "2"), "returned 2 series; allowed is one"),
        ({"status": "error", "error": "parse error"}, "parse error"),
        (["nonsense"], "TypeError"),
    ],
)  # fmt: skip
async def test_a_query_returns_one_number_or_a_reason(
    prometheus: tuple[HttpMetrics, str, dict[str, object]], answer: object, value: float | str
) -> None:
    metrics, url, answers = prometheus
    answers["next"] = answer
    found = await metrics.query(f"{url}/", "up")
    assert found == value if isinstance(value, float) else value in str(found)


async def test_an_empty_answer_is_not_a_number_and_no_answer_is_a_reason(
    prometheus: tuple[HttpMetrics, str, dict[str, object]],
) -> None:
    metrics, url, answers = prometheus
    answers["next"] = vector()
    found = await metrics.query(url, "up")
    assert isinstance(found, float)
    assert math.isnan(found)
    assert "Cannot connect" in str(await metrics.query("http://127.0.0.1:9", "up"))
