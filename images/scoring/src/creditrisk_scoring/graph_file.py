"""An ONNX file, cut into graphs that onnxruntime runs on their own.

onnxruntime runs whole graphs: it neither stops at a tensor inside nor begins with one. The package `onnx` could cut
them, for 55 MB in each image; protobuf is there anyway, because onnxruntime needs it, and keeps the fields of messages
that it was not told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

FLOAT, INT64 = 1, 7
_DTYPES: dict[int, npt.DTypeLike] = {FLOAT: "<f4", INT64: "<i8"}
# What is read and written of onnx.proto: by message and field, its number and type; lists end with a star.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {"graph": (7, "Graph")},
    "Graph": {
        "node": (1, "Node*"), "initializer": (5, "Tensor*"), "input": (11, "Value*"), "output": (12, "Value*"),
        "value_info": (13, "Value*"),
    },
    "Node": {"input": (1, "string*"), "output": (2, "string*"), "op_type": (4, "string"),
             "attribute": (5, "Attribute*")},
    "Attribute": {"name": (1, "string"), "i": (3, "int64"), "ints": (8, "int64*"), "type": (20, "int32")},
    "Tensor": {"dims": (1, "int64*"), "data_type": (2, "int32"), "name": (8, "string"), "raw_data": (9, "bytes")},
    "Value": {"name": (1, "string"), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, "int32")},
}  # fmt: skip
_INT, _INTS = 2, 7


@dataclass(frozen=True)
class Node:
    """An operation to add to a graph.

    Attributes:
        operator: Its type.
        inputs: Names of tensors.
        output: Likewise.
        attributes: Whole numbers, or lists of them.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, int | tuple[int, ...]]


class GraphFile:
    """An ONNX file's nodes and constants."""

    def __init__(self, content: bytes) -> None:
        """Parse a file.

        Raises:
            ValueError: It is no ONNX file.
        """
        try:
            self._model = _message("Model").FromString(content)
        except DecodeError as error:
            raise ValueError(f"not an ONNX file: {error}") from error
        self._constants = {constant.name: constant for constant in self._model.graph.initializer}

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return a constant's values; None unless there is one of that name, of 32-bit floats or 64-bit integers."""
        constant = self._constants.get(name)
        if constant is None or constant.data_type not in _DTYPES or not constant.HasField("raw_data"):
            return None
        values: npt.NDArray[Any] = np.frombuffer(constant.raw_data, _DTYPES[constant.data_type])
        return values.reshape(tuple(constant.dims))

    def node_with(self, operator: str, *, place: int, tensor: str) -> tuple[tuple[str, ...], str] | None:
        """Return the inputs and the output of the one node of a type that has a tensor as its input at a place."""
        found = [
            (tuple(node.input), node.output[0])
            for node in self._model.graph.node
            if node.op_type == operator and len(node.input) > place and node.input[place] == tensor
        ]
        return found[0] if len(found) == 1 else None

    def part(
        self,
        inputs: Mapping[str, int],
        outputs: Iterable[str],
        nodes: Iterable[Node] = (),
        constants: Mapping[str, npt.NDArray[np.generic]] | None = None,
    ) -> bytes:
        """Return the graph, as a file, that computes some tensors from others.

        Args:
            inputs: The types of the tensors that are given; what computes them is left out.
            outputs: The tensors to compute.
            nodes: Operations to add, in their order.
            constants: More constants, of 32-bit floats or 64-bit integers.
        """
        part = _message("Model").FromString(self._model.SerializeToString())
        graph, outputs = part.graph, tuple(outputs)
        every = [*graph.node, *map(_node, nodes)]
        kept, wanted = [], {*outputs}
        for node in reversed(every):
            if wanted.intersection(node.output) and not set(inputs).issuperset(node.output):
                kept.append(node)
                wanted.update(node.input)
        given = {**self._constants, **{name: _tensor(name, values) for name, values in (constants or {}).items()}}
        for field in ("node", "initializer", "input", "output", "value_info"):
            graph.ClearField(field)
        graph.node.extend(reversed(kept))
        graph.initializer.extend(given[name] for name in sorted(wanted & given.keys()))
        for name, kind in inputs.items():
            if name in wanted:
                graph.input.add(name=name).type.tensor_type.elem_type = kind
        for name in outputs:
            graph.output.add(name=name)
        return bytes(part.SerializeToString())


def _node(described: Node) -> Any:  # noqa: ANN401 - a message
    node = _message("Node")(input=described.inputs, output=[described.output], op_type=described.operator)
    for name, value in described.attributes.items():
        if isinstance(value, int):
            node.attribute.add(name=name, i=value, type=_INT)
        else:
            node.attribute.add(name=name, ints=value, type=_INTS)
    return node


def _tensor(name: str, values: npt.NDArray[np.generic]) -> Any:  # noqa: ANN401 - a message
    kind = FLOAT if values.dtype == np.float32 else INT64
    return _message("Tensor")(name=name, dims=values.shape, data_type=kind, raw_data=values.tobytes())


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="onnx_fields.proto", package="onnx_fields", syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, given) in fields.items():
            kind, several = given.rstrip("*"), given.endswith("*")
            field = described.field.add(name=name, number=number)
            field.label = FieldDescriptorProto.LABEL_REPEATED if several else FieldDescriptorProto.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".onnx_fields.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def _message(name: str) -> Any:  # noqa: ANN401 - a class that protobuf makes
    return GetMessageClass(_POOL.FindMessageTypeByName(f"onnx_fields.{name}"))
