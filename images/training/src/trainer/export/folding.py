"""The trained network rewritten for serving: the same function, with all that no row changes worked out once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.learning.network import CLIPPED_AT, CalibratedNetwork, Encoder, PackedLinear

# Categorical features share a table, one line for each combination, up to so many lines.
_LINES = 64
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FirstLayer:
    """Encoder and first layer, of all heads side by side: `units` is heads times the layer's width.

    A combination of categories, encoded, times the layer is a line of a table, so that the codes are never made. A
    clipped z-score and a bin's code are both ramps from 0 to 1 in one number.

    Attributes:
        strides: What one step in each categorical feature counts in each table's lines, int64 [categorical, tables].
        offset: Where each table begins, int64 [tables].
        table: All tables' lines; without categorical features one line, the bias. float32 [lines, units].
        start: Where each number's ramps begin to rise, float32 [numeric, ramps].
        width: Over what distance they rise, float32 [numeric, ramps].
        ramps: What each ramp is multiplied with, float32 [numeric * ramps, units].
    """

    strides: Integers
    offset: Integers
    table: Floats
    start: Floats
    width: Floats
    ramps: Floats


@dataclass(frozen=True)
class Folded:
    """A calibrated network in half the steps.

    Every hidden layer but the last has one more unit, which is always one: the next layer's biases are its weights. To
    add biases head by head costs a row as much as to multiply with the weights.

    Attributes:
        first: All heads' first layers as one.
        hidden: Weights of each further hidden layer, float32 [heads, in + 1, out + 1] but of the last, [.., .., out].
        last: The output layers' weights, with the heads' mean and the calibration's slope in them, [heads, in, 1].
        shift: What all biases after the last hidden layer come to, float32 [].
    """

    first: FirstLayer
    hidden: tuple[Floats, ...]
    last: Floats
    shift: Floats


@torch.no_grad()
def fold(calibrated: CalibratedNetwork) -> Folded:
    """Work out in float64 what the network does with every row alike."""
    network = calibrated.network
    layers = [layer for layer in network.layers if isinstance(layer, PackedLinear)]
    slope, intercept = calibrated.get_buffer("slope").double(), calibrated.get_buffer("intercept").double()
    weights = [torch.cat([layer.weight, layer.bias], dim=1).double() for layer in layers]
    weights = [*map(_with_one, weights[:-1]), weights[-1]]
    return Folded(
        first=_fold_first(network.encoder, weights[0].transpose(0, 1).flatten(1)),
        hidden=tuple(map(_single, weights[1:])),
        last=_single(network.output.weight.double() * slope / network.heads),
        shift=_single(network.output.bias.double().mean() * slope + intercept),
    )


def _with_one(weight: Tensor) -> Tensor:
    """Give a layer, float64 [heads, in + 1, out], the unit that is one for every row."""
    unit = torch.zeros_like(weight[:, :, :1])
    unit[:, -1] = 1
    return torch.cat([weight, unit], dim=2)


def _fold_first(encoder: Encoder, weight: Tensor) -> FirstLayer:
    """Fold the layer's weights and, as the last line, biases: float64 [in + 1, units]."""
    mean, scale = encoder.get_buffer("mean"), encoder.get_buffer("scale")
    numeric, bins = encoder.numeric_features, len(encoder.get_buffer("lower"))
    scores, pieces, codes, bias = torch.split(weight, [numeric, bins, len(weight) - numeric - bins - 1, 1])
    tables = [encoder.get_buffer(f"codes_{index}").double() for index in range(encoder.categorical_features)]
    parts = torch.split(codes, [table.shape[1] for table in tables])
    strides, joint = _joint([table @ part for table, part in zip(tables, parts, strict=True)])
    # clip(z) is a ramp of height 2 * CLIPPED_AT, less CLIPPED_AT. Every row takes one line of the first table: what is
    # the same for all goes with it.
    always = bias - CLIPPED_AT * scores.sum(0, keepdim=True)
    joint = [joint[0] + always, *joint[1:]] if joint else [always]
    column = torch.cat([torch.arange(numeric), encoder.get_buffer("column")])
    starts = torch.cat([mean - CLIPPED_AT * scale, encoder.get_buffer("lower")])
    widths = torch.cat([2 * CLIPPED_AT * scale, encoder.get_buffer("width")])
    return FirstLayer(
        strides=strides,
        offset=np.cumsum([0, *map(len, joint[:-1])], dtype=np.int64),
        table=_single(torch.cat(joint)),
        start=_single(_by_column(starts, column, 0.0)),
        width=_single(_by_column(widths, column, 1.0)),
        ramps=_single(_by_column(torch.cat([2 * CLIPPED_AT * scores, pieces]), column, 0.0).flatten(0, 1)),
    )


def _joint(parts: list[Tensor]) -> tuple[Integers, list[Tensor]]:
    """Join features' tables, float64 [categories, units], into ones of all combinations while they stay small.

    Returns:
        `FirstLayer.strides`, and the joint tables.
    """
    tables: list[Tensor] = []
    strides: list[Integers] = []
    for feature, part in enumerate(parts):
        if tables and len(tables[-1]) * len(part) <= _LINES:
            # The newest feature counts single lines, the earlier ones blocks of them.
            strides[-1] *= len(part)
            tables[-1] = (tables[-1][:, None] + part).flatten(0, 1)
        else:
            strides.append(np.zeros(len(parts), np.int64))
            tables.append(part)
        strides[-1][feature] = 1
    return np.stack(strides, axis=1) if strides else np.zeros((0, 0), np.int64), tables


def _by_column(values: Tensor, column: Tensor, missing: float) -> Tensor:
    """Order values of ramps, [ramps, ...], by the number that each is of: [numeric, most ramps of a number, ...]."""
    if not len(column):
        return values[:, None]
    groups = [values[column == number] for number in range(int(column.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(groups, batch_first=True, padding_value=missing)


def _single(numbers: Tensor) -> npt.NDArray[Any]:
    return numbers.float().numpy()
