"""The trained network rewritten for serving: the same function, with all that no row changes worked out once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.network import CLIPPED_AT, CalibratedNetwork, Encoder, PackedLinear

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FirstLayer:
    """Encoder and first layer, of all heads side by side: `units` is heads times the layer's width.

    A category's code times the layer is a line of a table, so that the codes are never made. A clipped z-score and a
    bin's code are both ramps from 0 to 1 in one number.

    Attributes:
        offset: Where each categorical feature's lines begin in the table, int64 [categorical].
        table: A line per category; without categorical features one line, the bias. float32 [lines, units].
        column: The number that each ramp is of, int64 [ramps].
        start: Where each ramp begins to rise, float32 [ramps].
        width: Over what distance it rises, float32 [ramps].
        ramps: What each ramp is multiplied with, float32 [ramps, units].
    """

    offset: Integers
    table: Floats
    column: Integers
    start: Floats
    width: Floats
    ramps: Floats


@dataclass(frozen=True)
class Folded:
    """A calibrated network in half the steps and three quarters of the weights.

    Attributes:
        first: All heads' first layers as one.
        hidden: Weights float32 [heads, in, out] and biases float32 [heads, 1, out] of each further hidden layer.
        last: The output layers' weights, with the heads' mean and the calibration's slope in them, [heads, in, 1].
        shift: What all biases after the last hidden layer come to, float32 [].
    """

    first: FirstLayer
    hidden: tuple[tuple[Floats, Floats], ...]
    last: Floats
    shift: Floats


@torch.no_grad()
def fold(calibrated: CalibratedNetwork) -> Folded:
    """Work out in float64 what the network does with every row alike."""
    network = calibrated.network
    first, *hidden = (layer for layer in network.layers if isinstance(layer, PackedLinear))
    slope, intercept = calibrated.get_buffer("slope").double(), calibrated.get_buffer("intercept").double()
    return Folded(
        first=_fold_first(network.encoder, _side_by_side(first.weight), _side_by_side(first.bias)[0]),
        hidden=tuple((_single(layer.weight), _single(layer.bias)) for layer in hidden),
        last=_single(network.output.weight.double() * slope / network.heads),
        shift=_single(network.output.bias.double().mean() * slope + intercept),
    )


def _fold_first(encoder: Encoder, weight: Tensor, bias: Tensor) -> FirstLayer:
    mean, scale = encoder.get_buffer("mean"), encoder.get_buffer("scale")
    numeric, bins = encoder.numeric_features, len(encoder.get_buffer("lower"))
    scores, pieces, codes = torch.split(weight, [numeric, bins, len(weight) - numeric - bins])
    # clip(z) is a ramp of height 2 * CLIPPED_AT, less CLIPPED_AT.
    bias = bias - CLIPPED_AT * scores.sum(0)
    tables = [encoder.get_buffer(f"codes_{index}").double() for index in range(encoder.categorical_features)]
    parts = torch.split(codes, [table.shape[1] for table in tables])
    lines = [table @ part for table, part in zip(tables, parts, strict=True)]
    # Every row takes one line of each feature's table: the bias goes with the first.
    lines = [lines[0] + bias, *lines[1:]] if lines else [bias[None]]
    return FirstLayer(
        offset=np.cumsum([0, *(len(table) for table in tables[:-1])], dtype=np.int64),
        table=_single(torch.cat(lines)),
        column=torch.cat([torch.arange(numeric), encoder.get_buffer("column")]).numpy(),
        start=_single(torch.cat([mean - CLIPPED_AT * scale, encoder.get_buffer("lower")])),
        width=_single(torch.cat([2 * CLIPPED_AT * scale, encoder.get_buffer("width")])),
        ramps=_single(torch.cat([2 * CLIPPED_AT * scores, pieces])),
    )


def _side_by_side(weights: Tensor) -> Tensor:
    """All heads' weights as one matrix, float64 [in, heads * out]; from float32 [heads, in, out]."""
    return weights.double().transpose(0, 1).flatten(1)


def _single(numbers: Tensor) -> npt.NDArray[Any]:
    return numbers.float().numpy()
