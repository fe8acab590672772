"""Writes a trained network as one ONNX file whose inputs and output the model contract names.

The graph is put together here, step by step: it has some twenty, and `torch.onnx.export` takes several seconds to find
them, most of the time of a small training. Every version's graph is held against the network before it may be promoted
(the gate `export_parity`).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from trainer.export.folding import FirstLayer, Folded, fold
from trainer.learning.network import CalibratedNetwork

_OPSET = 18
# The oldest file format that has this operator set's operators is understood by the most runtimes.
_IR_VERSION = 8
_ROWS = "rows"
# Whoever adds steps of their own behind the network finds plain names free.
_PREFIX = "network."


class _Steps:
    """Nodes in the order in which they are computed, and the constants that they use."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """Keep an array; return its name in the graph."""
        self.constants.append(numpy_helper.from_array(np.asarray(values), _PREFIX + name))
        return _PREFIX + name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: int | list[int]) -> str:
        """Add a step; return its output's name."""
        name = output or f"{_PREFIX}{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return name


def export_onnx(network: CalibratedNetwork, path: Path) -> None:
    """Export for any number of rows; an input without columns is left out.

    Args:
        network: Calibrated network, on the CPU.
        path: The file to write; nothing is written beside it.
    """
    encoder = network.network.encoder
    inputs = {
        "numeric": (TensorProto.FLOAT, encoder.numeric_features),
        "categorical": (TensorProto.INT64, encoder.categorical_features),
    }
    steps = _steps(fold(network), numeric=encoder.numeric_features > 0, categorical=encoder.categorical_features > 0)
    graph = helper.make_graph(
        steps.nodes,
        "credit-risk",
        [helper.make_tensor_value_info(name, kind, [_ROWS, n]) for name, (kind, n) in inputs.items() if n],
        [helper.make_tensor_value_info("probability_of_default", TensorProto.FLOAT, [_ROWS])],
        steps.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path), save_as_external_data=False)


def _steps(folded: Folded, *, numeric: bool, categorical: bool) -> _Steps:
    steps = _Steps()
    units = _first_layer(steps, folded.first, numeric=numeric, categorical=categorical)
    heads, width, _ = (folded.hidden[0] if folded.hidden else folded.last).shape
    # From [rows, heads * width] to [heads, rows, width].
    units = steps.add("Reshape", units, steps.constant("shape", np.array([-1, heads, width])))
    units = steps.add("Transpose", units, perm=[1, 0, 2])
    for number, weight in enumerate(folded.hidden):
        units = steps.add("MatMul", units, steps.constant(f"weight_{number}", weight))
        units = steps.add("Relu", units)
    logits = steps.add("MatMul", units, steps.constant("last", folded.last))
    logit = steps.add("ReduceSum", logits, steps.constant("heads_and_one", np.array([0, 2])), keepdims=0)
    logit = steps.add("Add", logit, steps.constant("shift", folded.shift))
    steps.add("Sigmoid", logit, output="probability_of_default")
    return steps


def _first_layer(steps: _Steps, first: FirstLayer, *, numeric: bool, categorical: bool) -> str:
    """Units of the first layer, [rows, heads * width]."""
    units = steps.constant("table", first.table)
    if categorical:
        lines = steps.add("MatMul", "categorical", steps.constant("strides", first.strides))
        lines = steps.add("Add", lines, steps.constant("offset", first.offset))
        units = steps.add("Gather", units, lines, axis=0)
        units = steps.add("ReduceSum", units, steps.constant("tables", np.array([1])), keepdims=0)
    if numeric:
        ramps = steps.add("Unsqueeze", "numeric", steps.constant("last_axis", np.array([2])))
        ramps = steps.add("Sub", ramps, steps.constant("start", first.start))
        ramps = steps.add("Div", ramps, steps.constant("width", first.width))
        limits = [steps.constant(name, np.float32(value)) for name, value in (("zero", 0), ("one", 1))]
        ramps = steps.add("Clip", ramps, *limits)
        ramps = steps.add("Reshape", ramps, steps.constant("flat", np.array([-1, first.start.size])))
        units = steps.add("Gemm", ramps, steps.constant("ramps", first.ramps), units)
    return steps.add("Relu", units)
