"""The public and the management application, with a real model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis.openapi
from hypothesis import HealthCheck, given, settings
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from scorer.app import create_app, create_management_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings

IDENTITY = Identity("credit-risk", "7", "run", {"model.onnx": "aa"}, {"roc_auc": 0.9})


@pytest.fixture
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, IDENTITY))


@pytest.fixture
async def client(slot: ModelSlot) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(pod_name="pod-1"), slot, Metrics()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


@pytest.fixture
def applicant(slot: ModelSlot) -> dict[str, Any]:
    assert slot.model
    return dict(slot.model.contract.reference_applicant)


async def test_an_application_is_scored(client: httpx.AsyncClient, applicant: dict[str, Any]) -> None:
    threshold = (await client.get("/v1/model")).json()["contract"]["decision_threshold"]
    answer = await client.post("/v1/score", json=applicant, headers={"X-Request-Id": "abc"})
    assert answer.status_code == 200
    body = answer.json()
    assert 0 <= body["probability_of_default"] <= 1
    assert body["decision"] == ("approve" if body["probability_of_default"] < threshold else "decline")
    assert body["model"] == {"name": "credit-risk", "version": "7"}
    assert body["request_id"] == "abc"
    assert body["served_by"] == "pod-1"


async def test_each_request_gets_its_own_id(client: httpx.AsyncClient, applicant: dict[str, Any]) -> None:
    ids = {(await client.post("/v1/score", json=applicant)).json()["request_id"] for _ in range(3)}
    assert len(ids) == 3


async def test_an_invalid_field_is_a_422_problem(client: httpx.AsyncClient, applicant: dict[str, Any]) -> None:
    answer = await client.post("/v1/score", json={**applicant, "credit_score": 9000})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error == {
        "field": "credit_score",
        "problem": "is 9000, out of range",
        "allowed": "a number from 300 to 850 points",
    }


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("GET", "/v1/score", {}, 405),
        ("POST", "/v1/score", {"content": b"<xml/>", "headers": {"Content-Type": "text/xml"}}, 415),
        ("POST", "/v1/score", {"content": b"{" + b" " * 70_000}, 413),
        ("POST", "/v1/score", {"content": b"{"}, 400),
    ],
)
async def test_other_errors_are_problems_too(
    client: httpx.AsyncClient, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = await client.request(method, path, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


async def test_without_a_model_the_pod_is_alive_but_not_ready_and_says_why() -> None:
    slot = ModelSlot(reason="the registry is down")
    management = httpx.ASGITransport(create_management_app(slot, Metrics()))
    async with httpx.AsyncClient(transport=management, base_url="http://management") as http:
        assert (await http.get("/healthz")).status_code == 200
        answers = [await http.get("/readyz")]
    public = httpx.ASGITransport(create_app(Settings(), slot, Metrics()))
    async with httpx.AsyncClient(transport=public, base_url="http://scoring") as http:
        answers += [await http.post("/v1/score", json={}), await http.get("/v1/model")]
    for answer in answers:
        assert answer.status_code == 503
        assert "the registry is down" in answer.json()["detail"]


async def test_a_draining_pod_is_not_ready_and_still_scores(
    client: httpx.AsyncClient, slot: ModelSlot, applicant: dict[str, Any]
) -> None:
    slot.draining = True
    management = httpx.ASGITransport(create_management_app(slot, Metrics()))
    async with httpx.AsyncClient(transport=management, base_url="http://management") as http:
        assert (await http.get("/readyz")).status_code == 503
    assert (await client.post("/v1/score", json=applicant)).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_probes_and_metrics_are_not_public(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_model_is_described_with_its_contract(client: httpx.AsyncClient) -> None:
    described = (await client.get("/v1/model")).json()
    assert (described["name"], described["version"], described["run_id"]) == ("credit-risk", "7", "run")
    assert described["metrics"] == {"roc_auc": 0.9}
    assert len(described["contract"]["features"]) == 11


async def test_the_openapi_document_shows_the_loaded_models_fields(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert schemas["Application"]["properties"]["credit_score"]["maximum"] == 850
    assert len(schemas["Application"]["required"]) == 11


async def test_scores_are_counted_in_the_metrics(slot: ModelSlot, applicant: dict[str, Any]) -> None:
    metrics = Metrics()
    public = httpx.ASGITransport(create_app(Settings(), slot, metrics))
    management = httpx.ASGITransport(create_management_app(slot, metrics))
    async with httpx.AsyncClient(transport=public, base_url="http://a") as http:
        await http.post("/v1/score", json=applicant)
        await http.post("/v1/score", json={})
    async with httpx.AsyncClient(transport=management, base_url="http://b") as http:
        text = (await http.get("/metrics")).text
    assert 'scorer_requests_total{status="200"} 1.0' in text
    assert 'scorer_requests_total{status="422"} 1.0' in text
    assert "scorer_probability_of_default_count 1.0" in text
    assert 'scorer_model_info{name="credit-risk",version="7"} 1.0' in text
    assert slot.model
    held_out = float(sum(slot.model.contract.score_histogram.counts))
    assert f"scorer_reference_probability_of_default_count {held_out}" in text


async def test_openmetrics_have_the_last_request_of_each_bucket_as_an_exemplar(
    slot: ModelSlot, applicant: dict[str, Any]
) -> None:
    metrics = Metrics()
    public = httpx.ASGITransport(create_app(Settings(), slot, metrics))
    management = httpx.ASGITransport(create_management_app(slot, metrics))
    async with httpx.AsyncClient(transport=public, base_url="http://a") as http:
        await http.post("/v1/score", json=applicant, headers={"X-Request-Id": "slow-one"})
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    async with httpx.AsyncClient(transport=management, base_url="http://b") as http:
        answer, plain = await http.get("/metrics", headers=asked), await http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
    exemplars = [sample.exemplar for sample in families["scorer_request_seconds"].samples if sample.exemplar]
    assert [exemplar.labels for exemplar in exemplars] == [{"request_id": "slow-one"}]
    assert "slow-one" not in plain.text


async def test_a_request_id_that_openmetrics_has_no_room_for_is_no_exemplar() -> None:
    metrics = Metrics()
    metrics.answered(200, time.perf_counter(), "x" * 128)
    samples = [sample for family in metrics.latency.collect() for sample in family.samples]
    assert samples
    assert not [sample for sample in samples if sample.exemplar]


async def test_whether_the_pod_is_ready_is_a_metric(slot: ModelSlot) -> None:
    metrics = Metrics()
    for tested, ready in ((slot, 1), (ModelSlot(), 0)):
        transport = httpx.ASGITransport(create_management_app(tested, metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://b") as http:
            assert f"scorer_ready {ready}.0" in (await http.get("/metrics")).text
            assert (await http.get("/readyz")).is_success is bool(ready)


def test_the_service_conforms_to_its_openapi_document(slot: ModelSlot) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(Settings(), slot, Metrics()))

    # For each of a dozen operations.
    @settings(max_examples=settings().max_examples // 5, deadline=None, suppress_health_check=list(HealthCheck))
    def hold(case: schemathesis.Case[Any]) -> None:
        # Columns of the same length, or a tensor's data that match its shape, are more than a schema can require.
        loose = case.path not in {"/v1/score", "/v1/model"}
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if loose else [])

    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert {operation.path for operation in operations} >= {"/v1/score", "/v1/score/batch", "/v1/model", "/invocations"}
    for operation in operations:
        given(case=operation.as_strategy())(hold)()
