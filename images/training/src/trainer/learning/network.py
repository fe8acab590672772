"""The network: a fixed encoding, then independent fully connected heads trained as one tensor program."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.data.inputs import CategoryInput, Inputs
from trainer.learning.monotone import constrain

# Z-scores are clipped here: beyond it, a number is just "very large".
CLIPPED_AT = 4.0


@dataclass(frozen=True)
class Architecture:
    """The shape of the network.

    Attributes:
        heads: Independent networks that are averaged (a packed ensemble).
        hidden: Width of each hidden layer of one head.
        bins: Piecewise-linear bins per numeric feature.
        dropout: Share of hidden units dropped during training.
    """

    heads: int
    hidden: tuple[int, ...]
    bins: int
    dropout: float


@dataclass(frozen=True)
class Encoding:
    """What the encoder takes from the training rows before training starts.

    Attributes:
        mean: Mean per numeric feature, float64 [numeric].
        scale: Standard deviation per numeric feature, never zero, float64 [numeric].
        low: The value from which the z-score rises, float32 [numeric]: the training data's minimum, or four standard
            deviations below the mean if that is higher.
        high: The value up to which it rises, float32 [numeric]; equal to `low` for a constant.
        edges: Ascending bin edges per numeric feature, the first and last of which are the training data's minimum and
            maximum; their number varies because ties are merged, and a constant has one.
        inputs: What the columns of both inputs may hold.
    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    edges: tuple[npt.NDArray[np.float32], ...]
    inputs: Inputs

    @classmethod
    def fit(cls, numeric: npt.NDArray[np.float32], inputs: Inputs, *, bins: int) -> "Encoding":
        """Compute mean, scale and quantile bin edges of the training rows, float32 [N, numeric], NaN if missing."""
        # One column at a time: together they take twice the memory of the rows.
        columns = [_Summary.of(column, bins) for column in numeric.T]
        mean, spread, low, high = (
            np.array([column[place] for column in columns], dtype=np.float64) for place in range(4)
        )
        scale = np.where(spread > 0, spread, 1)
        return cls(
            mean=mean,
            scale=scale,
            low=np.maximum(mean - CLIPPED_AT * scale, low).astype(np.float32),
            high=np.minimum(mean + CLIPPED_AT * scale, high).astype(np.float32),
            edges=tuple(column.edges for column in columns),
            inputs=inputs,
        )


class _Summary(NamedTuple):
    """What is known of a numeric column."""

    mean: float
    spread: float
    low: float
    high: float
    edges: npt.NDArray[np.float32]

    @classmethod
    def of(cls, column: npt.NDArray[np.float32], bins: int) -> "_Summary":
        """Summarize float32 [N], NaN if missing; the edges are exact, which takes the column in memory, twice."""
        known = column[~np.isnan(column)].astype(np.float64)
        edges = np.unique(np.quantile(known, np.linspace(0.0, 1.0, bins + 1)).astype(np.float32))
        return cls(float(known.mean()), float(known.std()), float(known.min()), float(known.max()), edges)


class Encoder(nn.Module):
    """Encodes raw numbers and category codes as one float32 row; has no trained weights.

    A numeric feature becomes its clipped z-score and a piecewise-linear code (Gorishniy et al., "On Embeddings for
    Numerical Features", 2022); beyond the training data's range, both stay what they are at its end. Where a number may
    be missing, a further column says whether it is, and the others are zero then. A category becomes a one-hot code or,
    if the categories are ordered, a thermometer code, with which neighboring grades share what is learned about them;
    missing and other have a column of their own in either.
    """

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        pieces = [len(edges) - 1 for edges in encoding.edges]
        column = np.repeat(np.arange(len(pieces)), pieces)
        lower = np.concatenate([edges[:-1] for edges in encoding.edges] or [np.empty(0, np.float32)])
        width = np.concatenate([np.diff(edges) for edges in encoding.edges] or [np.empty(0, np.float32)])
        distance = encoding.high - encoding.low
        self.register_buffer("low", torch.as_tensor(encoding.low))
        # A constant has no z-score to rise to: any positive distance will do.
        self.register_buffer("distance", torch.as_tensor(np.where(distance > 0, distance, np.float32(1))))
        for name, end in (("score_low", encoding.low), ("score_high", encoding.high)):
            score = (end.astype(np.float64) - encoding.mean) / encoding.scale
            self.register_buffer(name, torch.as_tensor(score.astype(np.float32)))
        self.register_buffer("column", torch.as_tensor(column))
        self.register_buffer("lower", torch.as_tensor(lower))
        self.register_buffer("width", torch.as_tensor(width))
        self.register_buffer("may_be_missing", torch.tensor(np.flatnonzero(encoding.inputs.missing)))
        codes = [_codes(column) for column in encoding.inputs.categories]
        for index, table in enumerate(codes):
            self.register_buffer(f"codes_{index}", table)
        self.numeric_features = len(encoding.edges)
        self.categorical_features = len(codes)
        indicators = sum(encoding.inputs.missing)
        self.out_features = self.numeric_features + sum(pieces) + indicators + sum(table.shape[1] for table in codes)
        directions = torch.tensor(encoding.inputs.directions or (0,) * len(pieces), dtype=torch.float32)
        self.directions = torch.cat(
            [directions, directions[torch.as_tensor(column)], torch.zeros(indicators)]
            + [_code_directions(*both) for both in zip(encoding.inputs.categories, codes, strict=True)]
        )

    @property
    def bins(self) -> slice:
        """The columns of the piecewise-linear codes."""
        return slice(self.numeric_features, self.numeric_features + len(self.get_buffer("lower")))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Encode float32 [N, numeric] and integers [N, categorical] as float32 [N, out_features]."""
        parts = self._numbers(numeric) if self.numeric_features else []
        parts += [
            functional.embedding(categorical[:, index].long(), self.get_buffer(f"codes_{index}"))
            for index in range(self.categorical_features)
        ]
        return torch.cat(parts, dim=1)

    def _numbers(self, numeric: Tensor) -> list[Tensor]:
        low, high = self.get_buffer("score_low"), self.get_buffer("score_high")
        height = ((numeric - self.get_buffer("low")) / self.get_buffer("distance")).clamp(0.0, 1.0)
        spread = torch.index_select(numeric, 1, self.get_buffer("column"))
        pieces = ((spread - self.get_buffer("lower")) / self.get_buffer("width")).clamp(0.0, 1.0)
        parts = [torch.lerp(low, high, height), pieces]
        if not len(may_be_missing := self.get_buffer("may_be_missing")):
            return parts
        missing = torch.isnan(torch.index_select(numeric, 1, may_be_missing)).float()
        return [*(part.nan_to_num(nan=0.0) for part in parts), missing]


def _codes(column: CategoryInput) -> Tensor:
    """Return the encoding of each code of a categorical column, float32 [codes, columns]."""
    count = column.count
    known = torch.tril(torch.ones(count, count))[:, 1:] if column.ordered else torch.eye(count)
    more = [code for code in column.codes if code >= count]
    table = torch.zeros(max(column.codes) + 1, known.shape[1] + len(more))
    table[:count, : known.shape[1]] = known
    for place, code in enumerate(more):
        table[code, known.shape[1] + place] = 1
    return table


def _code_directions(column: CategoryInput, table: Tensor) -> Tensor:
    """Return the direction of each column of a thermometer code, [columns]; missing and other have none."""
    directions = torch.zeros(table.shape[1])
    if column.direction:
        directions[: column.count - 1] = column.direction
    return directions


class PackedLinear(nn.Module):
    """One linear layer per head, stored as one tensor: [heads, N, in] to [heads, N, out]."""

    def __init__(self, heads: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(heads, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, out_features).uniform_(-bound, bound))

    def forward(self, rows: Tensor, heads: slice) -> Tensor:
        """Apply the weights of the selected heads, each to its own rows."""
        return torch.baddbmm(self.bias[heads], rows, self.weight[heads])


@dataclass(frozen=True)
class Part:
    """The rows of a batch that one process computes.

    Attributes:
        rows: Which ones, by their position in the batch.
        of: How many rows the batch has.
    """

    rows: slice
    of: int


class ByteDropout(nn.Module):
    """Dropout that draws one random byte per unit, which makes its share a multiple of 1/256.

    Drawing a float per unit, as `nn.Dropout` does, took half of all training time on a CPU.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(share * 256)

    def forward(self, units: Tensor, part: Part | None = None) -> Tensor:
        """Drop units and scale the rest during training.

        Args:
            units: [heads, N, units].
            part: Which rows of a batch these are; None for a whole one. Bytes are drawn for the batch, so that it loses
                the same units however many processes share it.
        """
        if not self.training or not self.dropped:
            return units
        heads, rows, width = units.shape
        part = part or Part(slice(0, rows), of=rows)
        count = heads * part.of * width
        words = torch.empty(-(-count // 8), dtype=torch.int64, device=units.device)
        # From the smallest integer up: the default range never sets the sign bit, which would bias one byte of eight.
        drawn = words.random_(torch.iinfo(torch.int64).min, None).view(torch.uint8)[:count]
        # In place, the comparison stays in bytes: going through booleans takes four times as long.
        kept = drawn.view(heads, part.of, width)[:, part.rows].ge_(self.dropped).to(units.dtype)
        return units * kept.mul_(256 / (256 - self.dropped))


class RiskNetwork(nn.Module):
    """Encoder and heads; returns one logit of default per head and row."""

    def __init__(self, encoding: Encoding, architecture: Architecture) -> None:
        super().__init__()
        self.heads = architecture.heads
        self.encoder = Encoder(encoding)
        widths = (self.encoder.out_features, *architecture.hidden)
        self.layers = nn.ModuleList(
            PackedLinear(architecture.heads, fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )
        self.dropout = ByteDropout(architecture.dropout)
        self.output = PackedLinear(architecture.heads, widths[-1], 1)
        if self.encoder.directions.any():
            constrain([*cast("list[PackedLinear]", list(self.layers)), self.output], self.encoder.directions)

    def start_at(self, default_rate: float) -> None:
        """Let training begin at a default rate: where defaults are rare, most of it would be spent on getting there."""
        with torch.no_grad():
            self.output.bias.fill_(math.log(default_rate / (1 - default_rate)))

    def forward(self, numeric: Tensor, categorical: Tensor, heads: slice = slice(None)) -> Tensor:
        """Return logits of default from the selected heads, float32 [heads, N]."""
        return self.logits(self.encoder(numeric, categorical), heads)

    def logits(self, encoded: Tensor, heads: slice = slice(None), part: Part | None = None) -> Tensor:
        """Return the logits of encoded rows, float32 [N, encoder.out_features]; they may be part of a batch."""
        rows = encoded.expand(len(range(self.heads)[heads]), -1, -1)
        for layer in self.layers:
            rows = self.dropout(functional.relu(layer(rows, heads)), part)
        return cast("Tensor", self.output(rows, heads)).squeeze(2)


class CalibratedNetwork(nn.Module):
    """The network to export: the heads' mean logit, calibrated and limited, as a probability of default."""

    def __init__(self, network: RiskNetwork, *, slope: float, intercept: float, floor: float, ceiling: float) -> None:
        super().__init__()
        self.network = network
        for name, value in {"slope": slope, "intercept": intercept, "floor": floor, "ceiling": ceiling}.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return the probability of default, float32 [N]."""
        logit = self.network(numeric, categorical).mean(dim=0)
        probability = torch.sigmoid(logit * self.get_buffer("slope") + self.get_buffer("intercept"))
        return probability.clamp(self.get_buffer("floor"), self.get_buffer("ceiling"))
