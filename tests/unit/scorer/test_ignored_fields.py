"""Ignored fields: clients of an older model keep sending them, in every protocol, with any value."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.contracts import as_version

IGNORED = ("former_field", "of-another model")
BATCH, INFER = "/v1/score/batch", "/v2/models/credit-risk/infer"
Applicant = dict[str, Any]
Request = tuple[str, bytes, str]


@pytest.fixture(scope="module")
def slot(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelSlot:
    """A model whose contract ignores two fields."""
    folder = tmp_path_factory.mktemp("ignoring")
    (folder / "model.onnx").write_bytes((model_folder / "model.onnx").read_bytes())
    contract = json.loads((model_folder / "contract.json").read_bytes())
    (folder / "contract.json").write_text(json.dumps({**contract, "ignored": IGNORED}))
    return ModelSlot(load_model(folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture
async def client(slot: ModelSlot) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(), slot, Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


@pytest.fixture
def applicant(slot: ModelSlot) -> Applicant:
    assert slot.model
    return dict(slot.model.contract.reference_applicant)


def as_json(path: str, document: object) -> Request:
    return path, json.dumps(document).encode(), "application/json"


def columns_of(applicant: Applicant) -> Applicant:
    return {name: [value] for name, value in applicant.items()}


def as_table(applicant: Applicant, extra: Applicant, media_type: str) -> Request:
    table, buffer = pa.table(columns_of(applicant) | {name: [value] for name, value in extra.items()}), io.BytesIO()
    if media_type.endswith("parquet"):
        pq.write_table(table, buffer)
    else:
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
    return BATCH, buffer.getvalue(), media_type


def tensors(applicant: Applicant) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
        for name, value in applicant.items()
    ]


def in_open_inference(applicant: Applicant, extra: Applicant) -> Request:
    ignored = [{"name": name, "shape": [3, 9], "datatype": "INT8", "data": [value]} for name, value in extra.items()]
    return as_json(INFER, {"inputs": [*tensors(applicant), *ignored]})


def in_csv(applicant: Applicant, extra: Applicant) -> Request:
    row = {**applicant, **dict.fromkeys(extra, "x")}
    text = ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n"
    return "/invocations", text.encode(), "text/csv"


FORMS: dict[str, Callable[[Applicant, Applicant], Request]] = {
    "single": lambda applicant, extra: as_json("/v1/score", applicant | extra),
    "records": lambda applicant, extra: as_json(BATCH, [applicant | extra]),
    "columns": lambda applicant, extra: as_json(BATCH, columns_of(applicant) | extra),
    "lines": lambda applicant, extra: (BATCH, json.dumps(applicant | extra).encode(), "application/x-ndjson"),
    "arrow": lambda applicant, extra: as_table(applicant, extra, "application/vnd.apache.arrow.stream"),
    "parquet": lambda applicant, extra: as_table(applicant, extra, "application/vnd.apache.parquet"),
    "dataframe_split": lambda applicant, extra: as_json("/invocations", {"dataframe_split": {
        "columns": [*applicant, *extra], "data": [[*applicant.values(), *extra.values()]]}}),
    "dataframe_records": lambda applicant, extra: as_json("/invocations", {"dataframe_records": [applicant | extra]}),
    "instances": lambda applicant, extra: as_json("/invocations", {"instances": columns_of(applicant) | extra}),
    "inputs": lambda applicant, extra: as_json("/invocations", {"inputs": columns_of(applicant) | extra}),
    "csv": in_csv,
    "open inference": in_open_inference,
}  # fmt: skip


@pytest.mark.parametrize("value", [3.5, "text", None, [[1], [2, 3]], {"a": {"b": ":"}}], ids=repr)
@pytest.mark.parametrize("form", FORMS)
async def test_ignored_fields_with_any_value_change_no_answer(
    client: httpx.AsyncClient, applicant: Applicant, form: str, value: Any
) -> None:
    async def answer(extra: Applicant) -> httpx.Response:
        path, body, media_type = FORMS[form](applicant, extra)
        headers = {"Content-Type": media_type, "X-Request-Id": "r"}
        return await client.post(path, content=body, headers=headers)

    plain, with_ignored = await answer({}), await answer(dict.fromkeys(IGNORED, value))
    assert with_ignored.status_code == 200, with_ignored.text
    assert b'"problem":{' not in with_ignored.content
    assert with_ignored.content == plain.content


@pytest.mark.parametrize("form", ["single", "records", "columns", "lines", "arrow", "open inference"])
async def test_unknown_fields_are_still_refused_and_only_features_are_named_as_allowed(
    client: httpx.AsyncClient, applicant: Applicant, form: str
) -> None:
    path, body, media_type = FORMS[form](applicant, {IGNORED[0]: [1], "unknown_field": [1]})
    if form == "open inference":
        body = body.replace(b'"shape": [3, 9]', b'"shape": [1]')
    answer = await client.post(path, content=body, headers={"Content-Type": media_type})
    assert "unknown_field" in answer.text
    assert IGNORED[0] not in answer.text
    assert ", ".join(applicant) in answer.text


async def test_an_ignored_binary_tensor_is_skipped(client: httpx.AsyncClient, applicant: Applicant) -> None:
    binary = struct.pack("<d", 1.0)
    income = applicant.pop("annual_income")
    inputs = [
        {"name": IGNORED[0], "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}},
        {"name": "annual_income", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}},
        *tensors(applicant),
    ]
    head = json.dumps({"inputs": inputs}).encode()
    answer = await client.post(
        INFER, content=head + binary + struct.pack("<d", income),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )  # fmt: skip
    single = await client.post("/v1/score", json={**applicant, "annual_income": income})
    (probability,) = answer.json()["outputs"][0]["data"]
    assert probability == pytest.approx(single.json()["probability_of_default"], abs=1e-6)


async def test_ignored_fields_are_described(client: httpx.AsyncClient, slot: ModelSlot) -> None:
    assert (await client.get("/v1/model")).json()["contract"]["ignored"] == list(IGNORED)
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    for name in ("Application", "Columns"):
        for field in IGNORED:
            assert schemas[name]["properties"][field] == {"description": "Accepted and ignored"}
            assert field not in schemas[name]["required"]
    metadata = (await client.get("/v2/models/credit-risk")).json()
    assert not {tensor["name"] for tensor in metadata["inputs"]} & set(IGNORED)


async def test_a_request_may_ask_for_as_many_reasons_as_there_are_features_and_ignored_fields(
    client: httpx.AsyncClient, applicant: Applicant, slot: ModelSlot
) -> None:
    """A client that asked a model of 13 fields for 13 reasons is not refused by one that ignores two of them."""
    assert slot.model
    contract = slot.model.contract
    assert contract.max_reasons == len(contract.features) + len(IGNORED) == 13
    assert (await client.post("/v1/score?reasons=13", json=applicant)).status_code == 200
    refused = await client.post("/v1/score?reasons=14", json=applicant)
    assert refused.json()["errors"][0]["allowed"] == "an integer from 1 to 13"
    operation = (await client.get("/openapi.json")).json()["paths"]["/v1/score"]["post"]
    assert operation["parameters"][0]["schema"]["maximum"] == 13


def test_a_model_with_a_contract_of_version_1_is_served_and_ignores_nothing(model_folder: Path, tmp_path: Path) -> None:
    document = as_version(json.loads((model_folder / "contract.json").read_bytes()), 1)
    (tmp_path / "model.onnx").write_bytes((model_folder / "model.onnx").read_bytes())
    (tmp_path / "contract.json").write_text(json.dumps(document))
    contract = load_model(tmp_path, Identity("credit-risk", "7", "run", {}, {})).contract
    assert (contract.format_version, contract.ignored) == (2, ())
