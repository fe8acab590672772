"""Writes a trained network as one ONNX file whose inputs and output the model contract names."""

import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from trainer.folding import FoldedNetwork
from trainer.network import CalibratedNetwork

_OPSET = 18
_EXAMPLE_ROWS = 3


class _NumericOnly(torch.nn.Module):
    def __init__(self, network: FoldedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        return self.network(numeric, numeric.new_zeros((numeric.shape[0], 0), dtype=torch.int64))  # type: ignore[no-any-return]


class _CategoricalOnly(torch.nn.Module):
    def __init__(self, network: FoldedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, categorical: torch.Tensor) -> torch.Tensor:
        return self.network(categorical.new_zeros((categorical.shape[0], 0), dtype=torch.float32), categorical)  # type: ignore[no-any-return]


def export_onnx(network: CalibratedNetwork, path: Path) -> None:
    """Export for any number of rows; an input without columns is left out.

    Args:
        network: Calibrated network in evaluation mode, on the CPU.
        path: The file to write; nothing is written beside it.
    """
    folded = FoldedNetwork(network)
    numeric = torch.zeros(_EXAMPLE_ROWS, folded.numeric_features)
    categorical = torch.zeros(_EXAMPLE_ROWS, folded.categorical_features, dtype=torch.int64)
    module: torch.nn.Module = folded
    inputs = {"numeric": numeric, "categorical": categorical}
    if not folded.categorical_features:
        module, inputs = _NumericOnly(folded), {"numeric": numeric}
    elif not folded.numeric_features:
        module, inputs = _CategoricalOnly(folded), {"categorical": categorical}
    rows = torch.export.Dim("rows", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=["probability_of_default"],
            dynamic_shapes=tuple({0: rows} for _ in inputs),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    # The exporter leaves stack traces with source paths at every node; a served file should hold the function alone.
    graph = model.graph
    parts: list[Any] = [*graph.node, *graph.input, *graph.output, *graph.initializer, graph]
    for part in parts:
        del part.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path), save_as_external_data=False)
