"""Grades of a master scale: the same in every protocol that has decisions, and in none if the model has no scale."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.graded_model import GRADED_CONTRACT, GRADES
from unit.scorer.missing_model import REFERENCE, write_model
from unit.scorer.protocols import BATCH, INFER, INVOCATIONS, PROTOCOLS, sample, values_of

# Their probabilities are .17, .44 and .83.
APPLICATIONS = [
    {**REFERENCE, "income": 400_000.0},
    {**REFERENCE, "bureau_score": 721.0},
    {**REFERENCE, "debt_ratio": 0.9, "employer": "B"},
]
EXPECTED = ["Prime", "B-", "subprime"]
GRADED = [
    name for name in PROTOCOLS if name not in {"split", "frame-records", "instances", "inputs", "invocations-csv"}
]


def serving(folder: Path, contract: dict[str, Any], **settings: Any) -> httpx.AsyncClient:
    model = load_model(write_model(folder, **contract), Identity("credit-risk", "7", "run", {}, {}))
    app = create_app(Settings(**settings), ModelSlot(model), Metrics())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """Shared, because a sandbox process for tables takes half a second to start."""
    async with serving(tmp_path_factory.mktemp("graded"), GRADED_CONTRACT) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ungraded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path_factory.mktemp("ungraded"), {**GRADED_CONTRACT, "grades": []}) as http:
        yield http


async def answer_to(client: httpx.AsyncClient, protocol: str, rows: list[dict[str, Any]]) -> httpx.Response:
    form = sample(protocol, rows)
    headers = {"Content-Type": form.media_type, **form.headers}
    answer = await client.post(form.path, content=form.body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("protocol", GRADED)
async def test_every_protocol_answers_with_the_same_grades(client: httpx.AsyncClient, protocol: str) -> None:
    if protocol == "single":
        answers = [await answer_to(client, protocol, [row]) for row in APPLICATIONS]
        assert [answer.json()["grade"] for answer in answers] == EXPECTED
        return
    answer = await answer_to(client, protocol, APPLICATIONS)
    assert values_of("grade", protocol, answer) == EXPECTED
    assert values_of("decision", protocol, answer) == ["approve", "approve", "decline"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_without_a_master_scale_no_answer_says_anything_about_grades(
    ungraded: httpx.AsyncClient, protocol: str
) -> None:
    answer = await answer_to(ungraded, protocol, APPLICATIONS)
    assert b"grade" not in answer.content
    if protocol in GRADED:
        assert set(values_of("grade", protocol, answer)) == {None}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("protocol", ["records", "columns", "lines", "csv", "arrow-stream", "parquet"])
async def test_a_refused_row_has_no_grade_and_one_with_warnings_has(client: httpx.AsyncClient, protocol: str) -> None:
    rows = [APPLICATIONS[0], {**REFERENCE, "home": "tent"}, {**REFERENCE, "income": 9e6}, APPLICATIONS[2]]
    answer = await answer_to(client, protocol, rows)
    assert values_of("grade", protocol, answer) == ["Prime", None, "Prime", "subprime"]
    assert b"outside-training-range" in answer.content


@pytest.mark.asyncio(loop_scope="module")
async def test_reasons_come_with_the_grade_too(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/score?reasons=2", json=APPLICATIONS[2])).json()
    assert answer["grade"] == "subprime"
    assert answer["reasons"]


@pytest.mark.asyncio(loop_scope="module")
async def test_open_inference_describes_and_selects_the_output(
    client: httpx.AsyncClient, ungraded: httpx.AsyncClient
) -> None:
    described = (await client.get("/v2/models/credit-risk")).json()["outputs"]
    assert described[-1] == {"name": "grade", "datatype": "BYTES", "shape": [-1]}
    request = {**json.loads(sample("tensors", APPLICATIONS).body), "outputs": [{"name": "grade"}]}
    (output,) = (await client.post(INFER, json=request)).json()["outputs"]
    assert output == {"name": "grade", "datatype": "BYTES", "shape": [3], "data": EXPECTED}
    request["outputs"] = [{"name": "grade", "parameters": {"binary_data": True}}]
    assert (await client.post(INFER, json=request)).content.endswith(b"\x08\0\0\0subprime")
    assert "grade" not in (await ungraded.get("/v2/models/credit-risk")).text
    refused = await ungraded.post(INFER, json=request)
    assert (refused.status_code, refused.json()["errors"][0]["problem"]) == (422, "is not an output")


@pytest.mark.asyncio(loop_scope="module")
async def test_mlflows_protocol_answers_with_probabilities_alone(client: httpx.AsyncClient) -> None:
    form = sample("split", APPLICATIONS)
    assert form.path == INVOCATIONS
    assert list((await answer_to(client, "split", APPLICATIONS)).json()) == ["predictions"]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_description_of_the_model_and_the_api_name_the_grades(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/model")).json()["contract"]["grades"] == GRADES
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    for name in ("Score", "RowScore"):
        assert schemas[name]["properties"]["grade"]["enum"] == EXPECTED
        assert "grade" not in schemas[name]["required"]
    assert "grade" in schemas["BatchByColumn"]["properties"]


async def test_the_audit_log_has_the_grade(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with serving(tmp_path, GRADED_CONTRACT, audit_log=True) as client:
        await client.post("/v1/score", json=APPLICATIONS[1])
        await client.post(BATCH, json=APPLICATIONS)
    single, batch = map(json.loads, capfdbinary.readouterr().out.splitlines())
    assert single["grade"] == "B-"
    assert "grade" not in batch
