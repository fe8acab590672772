"""What holds in every protocol: zero is a number, wrong input gets the same kind of answer, and ids come back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.protocols import INFER, PROTOCOLS, probabilities, sample

# Of the generated loans' numbers, these two may be 0.
MAY_BE_ZERO = ["annual_income", "debt_to_income_ratio"]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, Identity("credit-risk", "7", "run", {}, {}))


@pytest.fixture(scope="module")
def applicant(model: Model) -> dict[str, Any]:
    return dict(model.contract.reference_applicant)


@pytest.fixture
async def client(model: Model) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(), ModelSlot(model), Metrics()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


async def answer_to(client: httpx.AsyncClient, protocol: str, rows: list[dict[str, Any]]) -> httpx.Response:
    form = sample(protocol, rows)
    headers = {"Content-Type": form.media_type, **form.headers}
    return await client.post(form.path, content=form.body, headers=headers)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_zero_is_a_number_like_any_other(
    client: httpx.AsyncClient, model: Model, applicant: dict[str, Any], protocol: str, zero: float
) -> None:
    rows = [{**applicant, name: zero} for name in MAY_BE_ZERO]
    *expected, usual = [
        float(model.network.score(*model.decoder.decode(json.dumps(row).encode()))[0]) for row in (*rows, applicant)
    ]
    # The reference applicant has other numbers, and another probability.
    assert usual not in expected
    answer = await answer_to(client, protocol, rows)
    assert answer.status_code == 200, answer.text
    assert probabilities(protocol, answer) == pytest.approx(expected[: 1 if protocol == "single" else 2], abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_zero_that_is_out_of_range_is_no_missing_value(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str
) -> None:
    answer = await answer_to(client, protocol, [{**applicant, "credit_score": 0}])
    text = answer.text if not protocol.startswith(("arrow", "parquet")) else answer.content.decode("latin-1")
    assert "out of range" in text
    assert "missing" not in text


@pytest.mark.parametrize("given", ["0", "", " ", "a" * 200, "\u00e9"])
@pytest.mark.parametrize("protocol", ["tensors", "binary-tensors"])
@pytest.mark.parametrize("binary_output", [False, True])
async def test_the_id_of_an_inference_comes_back(
    client: httpx.AsyncClient, applicant: dict[str, Any], given: str, protocol: str, binary_output: bool
) -> None:
    form = sample(protocol, [applicant])
    length = int(form.headers.get("Inference-Header-Content-Length", len(form.body)))
    head = {**json.loads(form.body[:length]), "id": given, "parameters": {"binary_data_output": binary_output}}
    body = json.dumps(head).encode()
    headers = {"Content-Type": form.media_type}
    if length < len(form.body):
        headers["Inference-Header-Content-Length"] = str(len(body))
    answer = await client.post(INFER, content=body + form.body[length:], headers=headers)
    assert answer.status_code == 200, answer.text
    end = int(answer.headers.get("Inference-Header-Content-Length", len(answer.content)))
    assert (end < len(answer.content)) is binary_output
    assert json.loads(answer.content[:end])["id"] == given


async def test_an_inference_without_an_id_gets_none(client: httpx.AsyncClient, applicant: dict[str, Any]) -> None:
    assert "id" not in (await answer_to(client, "tensors", [applicant])).json()


@pytest.mark.parametrize("given", [0, 7, None, False, [], {}])
async def test_an_id_that_is_no_string_is_refused_by_name(
    client: httpx.AsyncClient, applicant: dict[str, Any], given: Any
) -> None:
    body = {**json.loads(sample("tensors", [applicant]).body), "id": given}
    refused = await client.post(INFER, json=body)
    assert (refused.status_code, "$.id" in refused.json()["detail"]) == (422, True)


# Clients of the Open Inference Protocol send any media type.
@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if "tensors" not in name])
async def test_a_media_type_that_is_not_read_is_a_415_that_lists_those_that_are(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str
) -> None:
    form = sample(protocol, [applicant])
    refused = await client.post(form.path, content=form.body, headers={"Content-Type": "application/xml"})
    assert refused.status_code == 415
    assert form.media_type in refused.headers["accept"].split(", ")
