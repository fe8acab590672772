"""Other ecosystems' protocols, exercised by their own clients over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tritonclient.http as triton
import uvicorn
from botocore.awsrequest import AWSPreparedRequest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from tritonclient.utils import InferenceServerException

from conftest import read_loans
from environments import packages
from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings

_new: Any = ScoringServerClient


@pytest.fixture(scope="module")
def loans(model_folder: Path) -> pd.DataFrame:
    """1,000 rows; real ones if they are available."""
    model = load_model(model_folder, Identity("credit-risk", "7", "", {}, {}))
    return read_loans(1_000)[[feature.name for feature in model.contract.features]]


@pytest.fixture(scope="module")
def expected(model_folder: Path, loans: pd.DataFrame) -> npt.NDArray[np.float32]:
    """What MLflow itself predicts with the same files."""
    return np.asarray(mlflow.pyfunc.load_model(str(model_folder)).predict(loans)).ravel()


@pytest.fixture(scope="module")
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture(scope="module")
def port(slot: ModelSlot) -> Iterator[int]:
    config = uvicorn.Config(create_app(Settings(), slot, Metrics()), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_single_applications_that_arrive_together_get_the_same_scores(
    slot: ModelSlot, loans: pd.DataFrame, expected: npt.NDArray[np.float32]
) -> None:
    transport = httpx.ASGITransport(create_app(Settings(), slot, Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        answers = await asyncio.gather(*(http.post("/v1/score", json=row) for row in loans.to_dict("records")))
    answered = [answer.json()["probability_of_default"] for answer in answers]
    np.testing.assert_allclose(answered, expected, atol=1e-6)


def test_mlflows_client_gets_what_pyfunc_predicts(
    port: int, loans: pd.DataFrame, expected: npt.NDArray[np.float32]
) -> None:
    client: Any = _new("127.0.0.1", port)
    client.wait_server_ready(timeout=10)
    assert client.get_version() == mlflow.__version__
    answered = client.invoke(loans.assign(a_column_more=1)).get_predictions(predictions_format="ndarray")
    np.testing.assert_allclose(answered, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["dataframe_records", "instances", "instances-rows", "inputs", "inputs-tensors"])
def test_each_form_of_invocations_gets_the_same_scores(
    url: str, loans: pd.DataFrame, expected: npt.NDArray[np.float32], form: str
) -> None:
    few = loans.head(50)
    document: Any = {
        "dataframe_records": few.to_dict("records"),
        "instances": few.to_dict("records"),
        "instances-rows": few.to_numpy().tolist(),
        "inputs": few.to_dict("list"),
        "inputs-tensors": {name: [[value] for value in values] for name, values in few.to_dict("list").items()},
    }[form]
    answer = httpx.post(f"{url}/invocations", json={form.partition("-")[0]: document, "params": {}})
    np.testing.assert_allclose(answer.json()["predictions"], expected[:50], atol=1e-6)


def test_sagemakers_client_gets_the_same_scores_for_csv(
    url: str, loans: pd.DataFrame, expected: npt.NDArray[np.float32]
) -> None:
    """Like Amazon's runtime, strip the endpoint's name from the path and pass the rest to the container."""
    client = boto3.client(
        "sagemaker-runtime", endpoint_url=url, region_name="eu-central-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip

    def to_container(request: AWSPreparedRequest, **_: Any) -> None:
        request.url = request.url.replace("/endpoints/credit-risk/invocations", "/invocations")

    client.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", to_container)
    body = loans.to_csv(index=False)
    answer = client.invoke_endpoint(EndpointName="credit-risk", ContentType="text/csv", Body=body)
    document = json.loads(answer["Body"].read())
    np.testing.assert_allclose(document["predictions"], expected, atol=1e-6)


@pytest.mark.parametrize("number", ["7_00", "\u0667\u0660\u0660", "nan", "inf", "700x"])
def test_csv_numbers_are_those_of_json(url: str, loans: pd.DataFrame, number: str) -> None:
    body = loans.head(1).assign(credit_score=number).to_csv(index=False)
    answer = httpx.post(f"{url}/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 422, answer.text
    assert "credit_score" in answer.text


def test_a_csv_row_with_a_value_too_many_is_never_shifted(url: str, loans: pd.DataFrame) -> None:
    header, first, second = loans.head(2).to_csv(index=False).splitlines()
    body = "\n".join([header, first, f"1,{second}"])
    answer = httpx.post(f"{url}/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"] == [{"field": "row 1", "problem": "has 12 values", "allowed": "11, as the header"}]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "exactly one of dataframe_split"),
        ({"instances": [], "inputs": []}, "exactly one of dataframe_split"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "row 0 is not an array of 1 values"),
        ({"dataframe_records": [{"gender": "Male"}]}, "invalid columns"),
        ({"instances": 7}, "instances must be"),
        ({"inputs": {"gender": 7}}, "one array per field"),
        ({"instances": [], "params": 7}, "params"),
    ],
)
def test_invalid_invocations_are_refused_with_the_reason(url: str, body: Any, detail: str) -> None:
    answer = httpx.post(f"{url}/invocations", json=body)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_an_invalid_row_fails_an_invocation_and_is_named(url: str, loans: pd.DataFrame) -> None:
    records = loans.head(3).to_dict("records")
    records[1]["credit_score"] = 9000
    answer = httpx.post(f"{url}/invocations", json={"dataframe_records": records})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "row 1: credit_score"


def tensors(loans: pd.DataFrame, *, binary: bool, column: bool = False) -> list[triton.InferInput]:
    found = []
    for name in loans:
        words = not pd.api.types.is_numeric_dtype(loans[name])
        values = loans[name].to_numpy(dtype=object if words else np.float64)
        values = values[:, None] if column else values
        found.append(triton.InferInput(name, list(values.shape), "BYTES" if words else "FP64"))
        found[-1].set_data_from_numpy(values, binary_data=binary)
    return found


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_gets_the_same_scores(
    port: int, loans: pd.DataFrame, expected: npt.NDArray[np.float32], binary: bool, column: bool
) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("credit-risk")
    assert client.is_model_ready("credit-risk", "7")
    assert not client.is_model_ready("credit-risk", "8")
    described = client.get_model_metadata("credit-risk")
    assert [tensor["name"] for tensor in described["inputs"]] == list(loans)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probability_of_default", "decision")]
    result = client.infer("credit-risk", tensors(loans, binary=binary, column=column), outputs=outputs, request_id="r1")
    np.testing.assert_allclose(result.as_numpy("probability_of_default"), expected, atol=1e-6)
    assert set(result.as_numpy("decision").tolist()) <= {b"approve", b"decline", "approve", "decline"}
    assert result.as_numpy("score_points") is None
    assert result.get_response()["id"] == "r1"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_tritons_client_may_compress_its_requests(
    port: int, loans: pd.DataFrame, expected: npt.NDArray[np.float32], coding: str
) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    inputs = tensors(loans, binary=True)
    result = client.infer("credit-risk", inputs, request_id="0", request_compression_algorithm=coding)
    np.testing.assert_allclose(result.as_numpy("probability_of_default"), expected, atol=1e-6)
    assert result.get_response()["id"] == "0"


def test_tritons_client_gets_all_outputs_if_it_names_none(port: int, loans: pd.DataFrame) -> None:
    result = triton.InferenceServerClient(f"127.0.0.1:{port}").infer("credit-risk", tensors(loans.head(3), binary=True))
    assert result.as_numpy("score_points").shape == (3,)


def test_tritons_client_reads_what_is_wrong(port: int, loans: pd.DataFrame) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    with pytest.raises(InferenceServerException, match="nobody is not served here"):
        client.get_model_metadata("nobody")
    with pytest.raises(InferenceServerException, match="invalid columns: gender"):
        client.infer("credit-risk", [t for t in tensors(loans.head(2), binary=True) if t.name() != "gender"])


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"datatype": "FP128"}, "not a valid inference request"),
        ({"datatype": "BYTES"}, "wrong datatype"),
        ({"shape": [2]}, "has 1 values"),
        ({"shape": [1, 1, 1]}, "wrong shape"),
        ({"parameters": {"binary_data_size": 8}}, "binary_data_size is 8"),
        ({"name": "gender"}, "appears twice"),
    ],
)
def test_invalid_tensors_are_refused_by_name(url: str, loans: pd.DataFrame, change: Any, detail: str) -> None:
    row = loans.iloc[0]
    inputs = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
        for name, value in row.to_dict().items()
    ]
    place = next(i for i, tensor in enumerate(inputs) if tensor["name"] == "annual_income")
    inputs[place] |= change
    answer = httpx.post(f"{url}/v2/models/credit-risk/infer", json={"inputs": inputs})
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
    assert answer.json()["error"] == answer.json()["detail"]


def test_kserves_client_gets_the_same_scores(url: str, loans: pd.DataFrame, expected: npt.NDArray[np.float32]) -> None:
    """In a separate process: KServe requires other versions of pandas and protobuf than the project has."""
    here = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, str(here / "kserve_client.py"), url], input=json.dumps(loans.to_dict("list")), text=True,
        env={**os.environ, "PYTHONPATH": str(packages(here / "kserve.txt"))}, capture_output=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    said = json.loads(found.stdout)
    for form in ("as JSON", "as binary tensors"):
        outputs = said.pop(form)
        np.testing.assert_allclose(outputs["probability_of_default"], expected, atol=1e-6)
        assert set(outputs["decision"]) == {"approve", "decline"}
        assert len(outputs["score_points"]) == len(loans)
    assert said == {"live": True, "ready": True, "model ready": True, "unknown ready": False}
