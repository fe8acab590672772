"""The Open Inference Protocol, version 2, over REST, with its extension for binary tensors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy.typing as npt
from fastapi import FastAPI, Request, Response

from scorer.applications.tables import Rows
from scorer.contract import Contract, Feature, NumericFeature
from scorer.decision_log.origin import Origin
from scorer.endpoints.openapi import BINARY, Document, json_content, problems, reference
from scorer.endpoints.tensors import (
    HEADER_LENGTH,
    Datatype,
    InferRequest,
    InferResponse,
    OutputTensor,
    RequestedOutput,
    pack_texts,
    parse_request,
    read_inputs,
)
from scorer.http.asgi import RequestIds, media_type, read_body, request_id_header
from scorer.http.media_types import JSON, OCTET_STREAM
from scorer.model.bundle import Model, ModelSlot, ScoredRows
from scorer.problems import FieldProblem, Problem
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import BatchScoring

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
_OUTPUTS: dict[str, Datatype] = {"probability_of_default": "FP32", "score_points": "INT32", "decision": "BYTES"}
_GRADE: dict[str, Datatype] = {"grade": "BYTES"}
_OPERATION: Document = {
    "requestBody": {
        "required": True,
        "content": {
            **json_content(reference("InferRequest")),
            OCTET_STREAM: {
                "schema": {"type": "string", "format": "binary", "description": "The JSON, then binary tensors"}
            },
        },
    },
    "responses": {
        "200": {
            "description": "Tensors with the rows' results",
            "content": {**json_content(reference("InferResponse")), OCTET_STREAM: BINARY},
        },
        **problems("400", "404", "413", "415", "422", "503"),
    },
}


def add_open_inference(app: FastAPI, context: ScoringContext, batches: BatchScoring, limit: int) -> None:
    """Add the endpoints; `limit` is that of a body, in bytes."""
    slot, ids = context.slot, RequestIds()
    tags: list[str | Any] = ["Open Inference Protocol"]
    absent = problems("404", "503")

    @app.get("/v2", tags=tags, summary="Describe the server")
    async def server() -> dict[str, Any]:
        return {"name": "credit-risk-scoring", "version": app.version, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", tags=tags, summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=tags, summary="Whether a model is loaded", responses=problems("503"))
    async def ready() -> dict[str, bool]:
        if reason := slot.not_ready:
            raise Problem(503, f"not ready: {reason}", headers=(("Retry-After", "5"),))
        return {"ready": True}

    @app.get("/v2/models/{name}", tags=tags, summary="Describe the model's inputs and outputs", responses=absent)
    @app.get("/v2/models/{name}/versions/{version}", tags=tags, summary="Describe the version", responses=absent)
    async def metadata(name: str, version: str = "") -> dict[str, Any]:
        return _metadata(_served(slot, name, version))

    @app.get("/v2/models/{name}/ready", tags=tags, summary="Whether the model is loaded", responses=absent)
    @app.get("/v2/models/{name}/versions/{version}/ready", tags=tags, summary="Whether the version is loaded",
             responses=absent)  # fmt: skip
    async def model_ready(name: str, version: str = "") -> dict[str, Any]:
        return {"name": _served(slot, name, version).identity.name, "ready": True}

    @app.post("/v2/models/{name}/infer", tags=tags, summary="Score tensors", openapi_extra=_OPERATION)
    @app.post("/v2/models/{name}/versions/{version}/infer", tags=tags, summary="Score tensors with this version",
              openapi_extra=_OPERATION)  # fmt: skip
    async def infer(request: Request, name: str, version: str = "") -> Response:
        model = _served(slot, name, version)
        # The protocol's clients send any media type, or none.
        headers = dict(request.scope["headers"])
        media_type(headers)
        body = await read_body(request.receive, limit)
        origin = Origin(ids.of(headers), "open_inference", time.perf_counter())
        asked, binary = parse_request(body, request.headers.get(HEADER_LENGTH))
        outputs = _requested_outputs(asked, _outputs(model))
        rows = await batches.score(origin, lambda model: _read(model, asked, binary), all_or_none=True)
        return _answer(rows, asked, outputs, dict([request_id_header(origin.request_id)]))


def example(contract: Contract) -> Document:
    """Return a request with the contract's reference applicant."""
    tensors = [
        {"name": name, "datatype": "BYTES" if isinstance(value, str) else "FP64", "shape": [1], "data": [value]}
        for name, value in contract.reference_applicant.items()
    ]
    return {"inputs": tensors}


def _served(slot: ModelSlot, name: str, version: str) -> Model:
    model = slot.require()
    identity = model.identity
    if name != identity.name or version not in {"", identity.version}:
        asked = f"{name} version {version}" if version else name
        raise Problem(404, f"{asked} is not served here; {identity.name} version {identity.version} is")
    return model


def _metadata(model: Model) -> dict[str, Any]:
    return {
        "name": model.identity.name,
        "versions": [model.identity.version],
        "platform": "onnx_onnxv1",
        "inputs": [_input(feature) for feature in model.contract.features],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _outputs(model).items()],
    }


def _input(feature: Feature) -> dict[str, Any]:
    datatype = "FP64" if isinstance(feature, NumericFeature) else "BYTES"
    # As in Triton's model configuration: a request may lack the tensor.
    optional = {"optional": True} if feature.missing else {}
    return {"name": feature.name, "datatype": datatype, "shape": [-1], **optional}


def _outputs(model: Model) -> dict[str, Datatype]:
    """Return the outputs' datatypes by name."""
    return {**_OUTPUTS, **_GRADE} if model.scale else _OUTPUTS


def _requested_outputs(asked: InferRequest, known: Mapping[str, Datatype]) -> list[RequestedOutput]:
    for output in asked.outputs:
        if output.name not in known:
            problem = FieldProblem(output.name, "is not an output", ", ".join(known))
            raise Problem(422, f"there is no output {output.name}", (problem,))
    binary = asked.parameters.get("binary_data_output") is True
    return asked.outputs or [RequestedOutput(name, {"binary_data": binary}) for name in known]


def _read(model: Model, asked: InferRequest, binary: bytes) -> Rows:
    return model.tables.from_columns(read_inputs(asked, binary, model.contract))


def _answer(
    rows: ScoredRows, asked: InferRequest, requested: Sequence[RequestedOutput], headers: dict[str, str]
) -> Response:
    columns: dict[str, tuple[list[Any], bytes]] = {
        "probability_of_default": (rows.probabilities.tolist(), _pack_numbers(rows.probabilities, "<f4")),
        "score_points": (rows.points.tolist(), _pack_numbers(rows.points, "<i4")),
        "decision": (list(rows.decisions), pack_texts(rows.decisions)),
    }
    if rows.grades is not None:
        columns["grade"] = (rows.grades, pack_texts(rows.grades))
    datatypes = _outputs(rows.model)
    outputs, binary = [], []
    for output in requested:
        values, raw = columns[output.name]
        tensor = OutputTensor(output.name, [len(rows)], datatypes[output.name])
        if output.parameters.get("binary_data") is True:
            tensor.parameters = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            tensor.data = values
        outputs.append(tensor)
    model = rows.model.reference
    head = msgspec.json.encode(InferResponse(model.name, model.version, outputs, asked.id))
    if not binary:
        return Response(head, media_type=JSON, headers=headers)
    headers[HEADER_LENGTH] = str(len(head))
    return Response(b"".join([head, *binary]), media_type=OCTET_STREAM, headers=headers)


def _pack_numbers(values: npt.NDArray[Any], kind: str) -> bytes:
    return values.astype(kind, copy=False).tobytes()
