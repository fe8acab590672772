"""The Open Inference Protocol, version 2, over REST, with its extension for binary tensors."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Request, Response
from msgspec import UNSET, UnsetType

from scorer.applications.decoder import read_json
from scorer.applications.tables import Column, Rows
from scorer.contract import Contract, NumericFeature
from scorer.endpoints.mlflow import refuse_any
from scorer.endpoints.openapi import INFER, problems
from scorer.http.asgi import JSON, read_body
from scorer.model.bundle import Model
from scorer.model.loader import ModelSlot
from scorer.problems import FieldProblem, Problem
from scorer.scoring.batch import Batch, BatchScorer
from scorer.scoring.single import model_of

BINARY = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"
_NUMPY = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_OUTPUTS = {"probability_of_default": "FP32", "score_points": "INT32", "decision": "BYTES"}
Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]


class InputTensor(msgspec.Struct):
    """One feature's values; as JSON in `data`, or behind the JSON where `binary_data_size` says so."""

    name: str
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    datatype: Datatype
    parameters: dict[str, Any] = {}
    data: list[Any] | UnsetType = UNSET


class RequestedOutput(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """A request for inference."""

    inputs: list[InputTensor]
    id: str | UnsetType = UNSET
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] = []


def add_open_inference(app: FastAPI, batches: BatchScorer, limit: int) -> None:
    """Add the endpoints; `limit` is a body's, in bytes."""
    slot = batches.scorer.slot
    tags: list[str | Any] = ["Open Inference Protocol"]
    absent = problems("404", "503")

    @app.get("/v2", tags=tags, summary="The server")
    async def server() -> dict[str, Any]:
        return {"name": "credit-risk-scoring", "version": app.version, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live", tags=tags, summary="The process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=tags, summary="A model is loaded", responses=problems("503"))
    async def ready() -> dict[str, bool]:
        if reason := slot.not_ready:
            raise Problem(503, f"not ready: {reason}")
        return {"ready": True}

    @app.get("/v2/models/{name}", tags=tags, summary="The model's inputs and outputs", responses=absent)
    @app.get("/v2/models/{name}/versions/{version}", tags=tags, summary="The same", responses=absent)
    async def metadata(name: str, version: str = "") -> dict[str, Any]:
        return _metadata(_served(slot, name, version))

    @app.get("/v2/models/{name}/ready", tags=tags, summary="The model is loaded", responses=absent)
    @app.get("/v2/models/{name}/versions/{version}/ready", tags=tags, summary="The same", responses=absent)
    async def model_ready(name: str, version: str = "") -> dict[str, Any]:
        return {"name": _served(slot, name, version).identity.name, "ready": True}

    @app.post("/v2/models/{name}/infer", tags=tags, summary="Score tensors", openapi_extra=INFER)
    @app.post("/v2/models/{name}/versions/{version}/infer", tags=tags, summary="The same", openapi_extra=INFER)
    async def infer(request: Request, name: str, version: str = "") -> Response:
        _served(slot, name, version)
        body = await read_body(request.receive, limit)
        asked, tensors = _parse(body, request.headers.get(HEADER_LENGTH))
        outputs = _wanted(asked)
        batch = await batches.score("infer", lambda model: _read(model, asked, tensors))
        refuse_any(batch)
        return _answer(batch, asked, outputs)


def _served(slot: ModelSlot, name: str, version: str) -> Model:
    model = model_of(slot)
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
        "inputs": [
            {
                "name": feature.name,
                "datatype": "FP64" if isinstance(feature, NumericFeature) else "BYTES",
                "shape": [-1],
            }
            for feature in model.contract.features
        ],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _OUTPUTS.items()],
    }


def _parse(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """Return the request and the binary tensors behind it."""
    length = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit() or int(header_length[:12]) > length:
            raise Problem(400, f"{HEADER_LENGTH} is {header_length[:80]!r}, which is no length within the body")
        length = int(header_length[:12])
    try:
        return msgspec.convert(read_json(body[:length]), InferRequest), body[length:]
    except msgspec.ValidationError as error:
        raise Problem(422, f"the body is no inference request: {error}") from error


def _wanted(asked: InferRequest) -> list[RequestedOutput]:
    for output in asked.outputs:
        if output.name not in _OUTPUTS:
            problem = FieldProblem(output.name, "is not an output", ", ".join(_OUTPUTS))
            raise Problem(422, f"there is no output {output.name}", (problem,))
    binary = asked.parameters.get("binary_data_output") is True
    return asked.outputs or [RequestedOutput(name, {"binary_data": binary}) for name in _OUTPUTS]


def _read(model: Model, asked: InferRequest, binary: bytes) -> Rows:
    columns: dict[str, Column] = {}
    at = 0
    for tensor in asked.inputs:
        if tensor.name in columns:
            raise Problem(422, f"input {tensor.name} stands twice")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            columns[tensor.name] = _from_json(tensor)
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
                raise Problem(422, f"input {tensor.name}: binary_data_size is {size!r}, not within the body")
            columns[tensor.name] = _from_bytes(tensor, binary[at : at + size])
            at += size
    if at != len(binary):
        raise Problem(422, f"{len(binary) - at} bytes of the body belong to no input")
    _check_types(model.contract, asked)
    return model.tables.from_columns(columns)


def _check_types(contract: Contract, asked: InferRequest) -> None:
    numeric = {feature.name for feature in contract.numeric}
    words = {feature.name for feature in contract.categorical}
    for tensor in asked.inputs:
        numbers = tensor.datatype not in {"BYTES", "BOOL"}
        if (tensor.name in numeric and not numbers) or (tensor.name in words and tensor.datatype != "BYTES"):
            allowed = "BYTES" if tensor.name in words else "FP64, or another type of numbers"
            problem = FieldProblem(tensor.name, f"is of datatype {tensor.datatype}", allowed)
            raise Problem(422, f"input {tensor.name} is of another datatype", (problem,))


def _elements(tensor: InputTensor) -> int:
    """Return the number of elements of a tensor of shape [N] or [N, 1]."""
    if not 1 <= len(tensor.shape) <= 2 or tensor.shape[1:] not in ([], [1]):
        problem = FieldProblem(tensor.name, f"is of shape {tensor.shape}", "[N] or [N, 1]")
        raise Problem(422, f"input {tensor.name} is of another shape", (problem,))
    return math.prod(tensor.shape)


def _from_json(tensor: InputTensor) -> list[Any]:
    count = _elements(tensor)
    data = [] if isinstance(tensor.data, UnsetType) else tensor.data
    values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in data]
    if len(values) != count:
        raise Problem(422, f"input {tensor.name} has {len(values)} values and the shape {tensor.shape}")
    return values


def _from_bytes(tensor: InputTensor, data: bytes) -> Column:
    count = _elements(tensor)
    try:
        values: Column = (
            _texts(data) if tensor.datatype == "BYTES" else np.frombuffer(data, np.dtype(_NUMPY[tensor.datatype]))
        )
    except (ValueError, struct.error) as error:
        raise Problem(422, f"input {tensor.name}: its bytes are no {tensor.datatype}: {error}") from error
    if len(values) != count:
        raise Problem(422, f"input {tensor.name} has {len(values)} values and the shape {tensor.shape}")
    return values


def _texts(data: bytes) -> list[str]:
    """Return strings that each have their length, uint32, in front."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise ValueError("a string ends behind the tensor")
        found.append(data[at - length : at].decode())
    return found


def _answer(batch: Batch, asked: InferRequest, wanted: Sequence[RequestedOutput]) -> Response:
    identity = batch.model.identity
    columns: dict[str, tuple[list[Any], bytes]] = {
        "probability_of_default": (batch.probabilities.tolist(), _bytes_of(batch.probabilities, "<f4")),
        "score_points": (batch.points.tolist(), _bytes_of(batch.points, "<i4")),
        "decision": (batch.decisions, b"".join(struct.pack("<I", len(d)) + d.encode() for d in batch.decisions)),
    }
    outputs, binary = [], []
    for output in wanted:
        values, raw = columns[output.name]
        described: dict[str, Any] = {
            "name": output.name, "datatype": _OUTPUTS[output.name], "shape": [len(batch)],
        }  # fmt: skip
        if output.parameters.get("binary_data") is True:
            described["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            described["data"] = values
        outputs.append(described)
    document = {"model_name": identity.name, "model_version": identity.version, "outputs": outputs}
    if not isinstance(asked.id, UnsetType):
        document["id"] = asked.id
    head = msgspec.json.encode(document)
    if not binary:
        return Response(head, media_type=JSON)
    return Response(b"".join([head, *binary]), media_type=BINARY, headers={HEADER_LENGTH: str(len(head))})


def _bytes_of(values: npt.NDArray[Any], kind: str) -> bytes:
    return values.astype(kind, copy=False).tobytes()
