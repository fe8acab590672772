"""Rewrite the trained network for serving: the same function, with everything that is constant precomputed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.learning.network import CalibratedNetwork, Encoder, PackedLinear

# Categorical features share a table with one row per combination, up to this many rows.
_TABLE_ROWS = 64
# What the graph reads in place of a missing number, and the ramp of the indicator, which falls from 1 there to 0 before
# the least number that a declaration allows. All other ramps are 0 there.
MISSING = -3e38
_INDICATOR_START, _INDICATOR_WIDTH = -1.7e38, -1e38
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FirstLayer:
    """Encoder and first layer of all heads side by side: `units` is the number of heads times the layer's width.

    Each table row is the product of the layer's weights and one encoded combination of categories, so the one-hot codes
    are never computed. A clipped z-score, the code of a bin and the indicator of a missing number are all ramps from 0
    to 1 over one number.

    Attributes:
        strides: How many rows of each table one step in each categorical feature moves, int64 [categorical, tables].
        offset: First row of each table, int64 [tables].
        table: The rows of all tables; without categorical features a single row, the bias. float32 [rows, units].
        start: Where each number's ramps start to rise, float32 [numeric, ramps].
        width: The distance over which they rise, float32 [numeric, ramps].
        ramps: The weights of each ramp, float32 [numeric * ramps, units].
        substitute: What is read in place of NaN, float32 [numeric]; None if no number may be missing.
    """

    strides: Integers
    offset: Integers
    table: Floats
    start: Floats
    width: Floats
    ramps: Floats
    substitute: Floats | None


@dataclass(frozen=True)
class Folded:
    """A calibrated network in half as many steps.

    Every hidden layer except the last has an extra unit that is always one, whose weights are the next layer's biases:
    adding biases per head would cost a row as much as multiplying with the weights.

    Attributes:
        first: The first layers of all heads combined.
        hidden: Weights of each further hidden layer, float32 [heads, in + 1, out + 1]; of the last, [.., .., out].
        last: Output weights, including the mean over heads and the calibration's slope, [heads, in, 1].
        shift: Sum of all biases after the last hidden layer, float32 [].
        limits: The lowest and the highest probability, float32 [2].
    """

    first: FirstLayer
    hidden: tuple[Floats, ...]
    last: Floats
    shift: Floats
    limits: Floats


@torch.no_grad()
def fold(calibrated: CalibratedNetwork) -> Folded:
    """Precompute, in float64, everything that does not depend on the row."""
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
        limits=_single(torch.stack([calibrated.get_buffer("floor"), calibrated.get_buffer("ceiling")])),
    )


def _with_one(weight: Tensor) -> Tensor:
    """Add the unit that is always one to a layer, float64 [heads, in + 1, out]."""
    unit = torch.zeros_like(weight[:, :, :1])
    unit[:, -1] = 1
    return torch.cat([weight, unit], dim=2)


def _fold_first(encoder: Encoder, weight: Tensor) -> FirstLayer:
    """Fold the layer's weights and, as the last row, its biases: float64 [in + 1, units]."""
    numeric, bins, missing = encoder.numeric_features, encoder.get_buffer("lower"), encoder.get_buffer("may_be_missing")
    sizes = [numeric, len(bins), len(missing), len(weight) - numeric - len(bins) - len(missing) - 1, 1]
    scores, pieces, indicators, codes, bias = torch.split(weight, sizes)
    tables = [encoder.get_buffer(f"codes_{index}").double() for index in range(encoder.categorical_features)]
    parts = torch.split(codes, [table.shape[1] for table in tables])
    strides, joint = _joint([table @ part for table, part in zip(tables, parts, strict=True)])
    # A z-score is a ramp from its lowest to its highest value. Every application uses exactly one row of the first
    # table, so the lowest values are added there; a missing number, whose z-score is 0, takes them back.
    lowest = scores * encoder.get_buffer("score_low").double()[:, None]
    constant = bias + lowest.sum(0, keepdim=True)
    joint = [joint[0] + constant, *joint[1:]] if joint else [constant]
    heights = encoder.get_buffer("score_high").double() - encoder.get_buffer("score_low").double()
    column = torch.cat([torch.arange(numeric), encoder.get_buffer("column"), missing])
    starts = [encoder.get_buffer("low"), bins, torch.full(missing.shape, _INDICATOR_START)]
    widths = [encoder.get_buffer("distance"), encoder.get_buffer("width"), torch.full(missing.shape, _INDICATOR_WIDTH)]
    ramps = [scores * heights[:, None], pieces, indicators - lowest[missing]]
    return FirstLayer(
        strides=strides,
        offset=np.cumsum([0, *map(len, joint[:-1])], dtype=np.int64),
        table=_single(torch.cat(joint)),
        start=_single(_by_column(torch.cat(starts), column, 0.0)),
        width=_single(_by_column(torch.cat(widths), column, 1.0)),
        ramps=_single(_by_column(torch.cat(ramps), column, 0.0).flatten(0, 1)),
        substitute=_single(torch.full((numeric,), torch.nan).index_fill(0, missing, MISSING)) if len(missing) else None,
    )


def _joint(parts: list[Tensor]) -> tuple[Integers, list[Tensor]]:
    """Merge features' tables, float64 [categories, units], into tables of all combinations while those stay small.

    Returns:
        `FirstLayer.strides` and the merged tables.
    """
    tables: list[Tensor] = []
    strides: list[Integers] = []
    for feature, part in enumerate(parts):
        if tables and len(tables[-1]) * len(part) <= _TABLE_ROWS:
            # The newest feature moves by single rows, the earlier ones by blocks of rows.
            strides[-1] *= len(part)
            tables[-1] = (tables[-1][:, None] + part).flatten(0, 1)
        else:
            strides.append(np.zeros(len(parts), np.int64))
            tables.append(part)
        strides[-1][feature] = 1
    return np.stack(strides, axis=1) if strides else np.zeros((0, 0), np.int64), tables


def _by_column(values: Tensor, column: Tensor, missing: float) -> Tensor:
    """Group values per ramp, [ramps, ...], by numeric feature and pad them: [numeric, most ramps per feature, ...]."""
    if not len(column):
        return values[:, None]
    groups = [values[column == number] for number in range(int(column.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(groups, batch_first=True, padding_value=missing)


def _single(numbers: Tensor) -> npt.NDArray[Any]:
    return numbers.float().numpy()
