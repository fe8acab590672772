"""Write a trained network as a single ONNX file with the inputs and the output that the model contract defines.

The graph is built node by node: it has about twenty nodes, and tracing them with `torch.onnx.export` takes several
seconds, most of the time of a small training run. The gate `export_parity` compares every exported graph with its
network before the Production pointer may move to it.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainer.export.folding import FirstLayer, Folded, fold
from trainer.learning.network import CalibratedNetwork

_OPSET = 18
# The oldest file format that supports this operator set, for compatibility with the most runtimes.
_IR_VERSION = 8
_ROWS = "rows"
# Keeps unprefixed names free for those who append nodes of their own to the graph.
_PREFIX = "network."


class _GraphBuilder:
    """Nodes in execution order, and the constants that they use."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """Add a constant and return its name in the graph."""
        self.constants.append(numpy_helper.from_array(np.asarray(values), _PREFIX + name))
        return _PREFIX + name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: int | list[int]) -> str:
        """Add a node and return the name of its output."""
        name = output or f"{_PREFIX}{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return name


def export_onnx(network: CalibratedNetwork, path: Path) -> None:
    """Export a network for any number of rows; an input without columns is omitted.

    Args:
        network: Calibrated network, on the CPU.
        path: The only file to write.
    """
    encoder = network.network.encoder
    inputs = {
        "numeric": (TensorProto.FLOAT, encoder.numeric_features),
        "categorical": (TensorProto.INT64, encoder.categorical_features),
    }
    builder = _build(fold(network), numeric=encoder.numeric_features > 0, categorical=encoder.categorical_features > 0)
    graph = helper.make_graph(
        builder.nodes,
        "credit-risk",
        [helper.make_tensor_value_info(name, kind, [_ROWS, n]) for name, (kind, n) in inputs.items() if n],
        [helper.make_tensor_value_info("probability_of_default", TensorProto.FLOAT, [_ROWS])],
        builder.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path), save_as_external_data=False)


def _build(folded: Folded, *, numeric: bool, categorical: bool) -> _GraphBuilder:
    graph = _GraphBuilder()
    units = _first_layer(graph, folded.first, numeric=numeric, categorical=categorical)
    heads, width, _ = (folded.hidden[0] if folded.hidden else folded.last).shape
    # Reshape [rows, heads * width] to [heads, rows, width].
    units = graph.add("Reshape", units, graph.constant("shape", np.array([-1, heads, width])))
    units = graph.add("Transpose", units, perm=[1, 0, 2])
    for number, weight in enumerate(folded.hidden):
        units = graph.add("MatMul", units, graph.constant(f"weight_{number}", weight))
        units = graph.add("Relu", units)
    logits = graph.add("MatMul", units, graph.constant("last", folded.last))
    logit = graph.add("ReduceSum", logits, graph.constant("heads_and_one", np.array([0, 2])), keepdims=0)
    logit = graph.add("Add", logit, graph.constant("shift", folded.shift))
    probability = graph.add("Sigmoid", logit)
    limits = [graph.constant(name, value) for name, value in zip(("floor", "ceiling"), folded.limits, strict=True)]
    graph.add("Clip", probability, *limits, output="probability_of_default")
    return graph


def _first_layer(graph: _GraphBuilder, first: FirstLayer, *, numeric: bool, categorical: bool) -> str:
    """Add the first layer and return its output, [rows, heads * width]."""
    units = graph.constant("table", first.table)
    if categorical:
        lines = graph.add("MatMul", "categorical", graph.constant("strides", first.strides))
        lines = graph.add("Add", lines, graph.constant("offset", first.offset))
        units = graph.add("Gather", units, lines, axis=0)
        units = graph.add("ReduceSum", units, graph.constant("tables", np.array([1])), keepdims=0)
    if numeric:
        numbers = "numeric"
        if first.substitute is not None:
            missing = graph.add("IsNaN", numbers)
            numbers = graph.add("Where", missing, graph.constant("missing", first.substitute), numbers)
        ramps = graph.add("Unsqueeze", numbers, graph.constant("last_axis", np.array([2])))
        ramps = graph.add("Sub", ramps, graph.constant("start", first.start))
        ramps = graph.add("Div", ramps, graph.constant("width", first.width))
        limits = [graph.constant(name, np.float32(value)) for name, value in (("zero", 0), ("one", 1))]
        ramps = graph.add("Clip", ramps, *limits)
        ramps = graph.add("Reshape", ramps, graph.constant("flat", np.array([-1, first.start.size])))
        units = graph.add("Gemm", ramps, graph.constant("ramps", first.ramps), units)
    return graph.add("Relu", units)
