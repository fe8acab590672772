"""Tensors of the Open Inference Protocol: from JSON or from binary data to columns, and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from scorer.applications.features import takes_values
from scorer.applications.json_bodies import read_json_with_nan
from scorer.applications.rows import Column
from scorer.contract import Contract
from scorer.problems import FieldProblem, Problem

HEADER_LENGTH = "inference-header-content-length"
Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"
]
Shape = Annotated[list[Annotated[int, Meta(ge=0)]], Meta(description="[N] or [N, 1]")]
_NUMPY = {
    "BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


class InputTensor(msgspec.Struct):
    """One feature's values: JSON in `data`, or binary after the JSON if `binary_data_size` is set."""

    name: str
    shape: Shape
    datatype: Datatype
    parameters: dict[str, Any] = {}
    data: list[Any] | UnsetType = UNSET


class RequestedOutput(msgspec.Struct):
    """An output that the client requests."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """A request for inference."""

    inputs: Annotated[list[InputTensor], Meta(description="One per feature")]
    id: str | UnsetType = UNSET
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] = []


class OutputTensor(msgspec.Struct):
    """One output's values: JSON in `data`, or binary after the JSON if `binary_data_size` is set."""

    name: str
    shape: Shape
    datatype: Datatype
    parameters: dict[str, Any] | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class InferResponse(msgspec.Struct):
    """The answer to a request for inference."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET


def parse_request(body: bytes, header_length: str | None) -> tuple[InferRequest, bytes]:
    """Return the request and the binary tensors after it; `header_length` is the header that gives the JSON's length.

    Raises:
        Problem: 400 if the body is not JSON or the header is wrong, 422 if the JSON is not an inference request.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit() or int(header_length[:12]) > length:
            raise Problem(400, f"{HEADER_LENGTH} is {header_length[:80]!r}, not a length within the body")
        length = int(header_length[:12])
    try:
        return msgspec.convert(read_json_with_nan(body[:length]), InferRequest), body[length:]
    except msgspec.ValidationError as error:
        raise Problem(422, f"the body is not a valid inference request: {error}") from error


def read_inputs(request: InferRequest, binary: bytes, contract: Contract) -> dict[str, Column]:
    """Return the inputs' values by name; those that the contract ignores are empty.

    Raises:
        Problem: 422 that names the input and what is wrong with it.
    """
    columns: dict[str, Column] = {}
    at = 0
    for tensor in request.inputs:
        if tensor.name in columns:
            raise Problem(422, f"input {tensor.name} appears twice")
        size = tensor.parameters.get("binary_data_size")
        if size is not None and (
            not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at
        ):
            raise Problem(422, f"input {tensor.name}: binary_data_size is {size!r}, not within the body")
        if tensor.name in contract.ignored:
            columns[tensor.name] = []
        else:
            columns[tensor.name] = _from_json(tensor) if size is None else _from_bytes(tensor, binary[at : at + size])
        at += size or 0
    if at != len(binary):
        raise Problem(422, f"{len(binary) - at} bytes of the body belong to no input")
    _check_datatypes(request.inputs, contract)
    return columns


def pack_texts(texts: Collection[str]) -> bytes:
    """Return strings as a binary tensor: each follows its length, a uint32."""
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def _check_datatypes(inputs: Sequence[InputTensor], contract: Contract) -> None:
    numeric = {feature.name for feature in contract.numeric}
    words = {feature.name: feature for feature in contract.categorical}
    for tensor in inputs:
        numbers = tensor.datatype not in {"BYTES", "BOOL"}
        wrong = tensor.name in words and tensor.datatype != "BYTES" and not takes_values(words[tensor.name])
        if wrong or (tensor.name in numeric and not numbers):
            allowed = "BYTES" if tensor.name in words else "FP64, or another numeric datatype"
            problem = FieldProblem(tensor.name, f"has the datatype {tensor.datatype}", allowed)
            raise Problem(422, f"input {tensor.name} has the wrong datatype", (problem,))


def _count_elements(tensor: InputTensor) -> int:
    """Return the number of elements of a tensor of shape [N] or [N, 1]."""
    if not 1 <= len(tensor.shape) <= 2 or tensor.shape[1:] not in ([], [1]):
        problem = FieldProblem(tensor.name, f"has the shape {tensor.shape}", "[N] or [N, 1]")
        raise Problem(422, f"input {tensor.name} has the wrong shape", (problem,))
    return math.prod(tensor.shape)


def _from_json(tensor: InputTensor) -> list[Any]:
    count = _count_elements(tensor)
    data = [] if isinstance(tensor.data, UnsetType) else tensor.data
    values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in data]
    if len(values) != count:
        raise Problem(422, f"input {tensor.name} has {len(values)} values and the shape {tensor.shape}")
    return values


def _from_bytes(tensor: InputTensor, data: bytes) -> Column:
    count = _count_elements(tensor)
    try:
        values: Column = (
            _unpack_texts(data)
            if tensor.datatype == "BYTES"
            else np.frombuffer(data, np.dtype(_NUMPY[tensor.datatype]))
        )
    except (ValueError, struct.error) as error:
        raise Problem(422, f"input {tensor.name}: its binary data is not {tensor.datatype}: {error}") from error
    if len(values) != count:
        raise Problem(422, f"input {tensor.name} has {len(values)} values and the shape {tensor.shape}")
    return values


def _unpack_texts(data: bytes) -> list[str]:
    """Return the strings of a binary tensor; each follows its length, a uint32."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise ValueError("a string ends beyond the tensor")
        found.append(data[at - length : at].decode())
    return found
