"""The network: a fixed encoding, then independent fully connected heads trained as one tensor program."""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

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
        mean: Mean per numeric feature, float32 [numeric].
        scale: Standard deviation per numeric feature, never zero, float32 [numeric].
        edges: Ascending bin edges per numeric feature; their number varies because ties are merged.
        categories: Number of categories per categorical feature.
        ordered: Whether the categories of each categorical feature are ordered.
    """

    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    edges: tuple[npt.NDArray[np.float32], ...]
    categories: tuple[int, ...]
    ordered: tuple[bool, ...]

    @classmethod
    def fit(
        cls,
        numeric: npt.NDArray[np.float32],
        categories: tuple[int, ...],
        ordered: tuple[bool, ...],
        *,
        bins: int,
    ) -> "Encoding":
        """Compute mean, scale and quantile bin edges of the training rows, float32 [N, numeric]."""
        quantiles = np.linspace(0.0, 1.0, bins + 1)
        edges = tuple(
            _distinct(np.quantile(column.astype(np.float64), quantiles).astype(np.float32)) for column in numeric.T
        )
        scale = numeric.std(axis=0, dtype=np.float64).astype(np.float32)
        return cls(
            mean=numeric.mean(axis=0, dtype=np.float64).astype(np.float32),
            scale=np.where(scale > 0, scale, 1).astype(np.float32),
            edges=edges,
            categories=categories,
            ordered=ordered,
        )


def _distinct(edges: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    distinct = np.unique(edges)
    # A constant column still needs one bin with a positive width.
    return distinct if len(distinct) > 1 else np.array([distinct[0], distinct[0] + 1], dtype=np.float32)


class Encoder(nn.Module):
    """Encodes raw numbers and category indices as one float32 row; has no trained weights.

    A numeric feature becomes its clipped z-score and a piecewise-linear code (Gorishniy et al., "On Embeddings for
    Numerical Features", 2022). A category becomes a one-hot code or, if the categories are ordered, a thermometer code,
    with which neighboring grades share what is learned about them.
    """

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        pieces = [len(edges) - 1 for edges in encoding.edges]
        column = np.repeat(np.arange(len(pieces)), pieces)
        lower = np.concatenate([edges[:-1] for edges in encoding.edges] or [np.empty(0, np.float32)])
        width = np.concatenate([np.diff(edges) for edges in encoding.edges] or [np.empty(0, np.float32)])
        self.register_buffer("mean", torch.as_tensor(encoding.mean))
        self.register_buffer("scale", torch.as_tensor(encoding.scale))
        self.register_buffer("column", torch.as_tensor(column))
        self.register_buffer("lower", torch.as_tensor(lower))
        self.register_buffer("width", torch.as_tensor(width))
        codes = [_codes(n, ordered=o) for n, o in zip(encoding.categories, encoding.ordered, strict=True)]
        for index, table in enumerate(codes):
            self.register_buffer(f"codes_{index}", table)
        self.numeric_features = len(encoding.edges)
        self.categorical_features = len(codes)
        self.out_features = self.numeric_features + sum(pieces) + sum(table.shape[1] for table in codes)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Encode float32 [N, numeric] and int64 [N, categorical] as float32 [N, out_features]."""
        parts = []
        if self.numeric_features:
            standard = (numeric - self.get_buffer("mean")) / self.get_buffer("scale")
            spread = torch.index_select(numeric, 1, self.get_buffer("column"))
            pieces = ((spread - self.get_buffer("lower")) / self.get_buffer("width")).clamp(0.0, 1.0)
            parts += [standard.clamp(-CLIPPED_AT, CLIPPED_AT), pieces]
        parts += [
            functional.embedding(categorical[:, index], self.get_buffer(f"codes_{index}"))
            for index in range(self.categorical_features)
        ]
        return torch.cat(parts, dim=1)


def _codes(count: int, *, ordered: bool) -> Tensor:
    if not ordered:
        return torch.eye(count)
    return torch.tril(torch.ones(count, count))[:, 1:].contiguous()


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


class ByteDropout(nn.Module):
    """Dropout that draws one random byte per unit, which makes its share a multiple of 1/256.

    Drawing a float per unit, as `nn.Dropout` does, took half of all training time on a CPU.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(share * 256)

    def forward(self, units: Tensor) -> Tensor:
        """Drop units and scale the rest during training."""
        if not self.training or not self.dropped:
            return units
        words = torch.empty(-(-units.numel() // 8), dtype=torch.int64, device=units.device)
        # From the smallest integer up: the default range never sets the sign bit, which would bias one byte of eight.
        drawn = words.random_(torch.iinfo(torch.int64).min, None).view(torch.uint8)[: units.numel()]
        # In place, the comparison stays in bytes: going through booleans takes four times as long.
        kept = drawn.ge_(self.dropped).view(units.shape).to(units.dtype)
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

    def forward(self, numeric: Tensor, categorical: Tensor, heads: slice = slice(None)) -> Tensor:
        """Return logits of default from the selected heads, float32 [heads, N]."""
        return self.logits(self.encoder(numeric, categorical), heads)

    def logits(self, encoded: Tensor, heads: slice = slice(None)) -> Tensor:
        """Return the logits of encoded rows, float32 [N, encoder.out_features]."""
        rows = encoded.expand(len(range(self.heads)[heads]), -1, -1)
        for layer in self.layers:
            rows = self.dropout(functional.relu(layer(rows, heads)))
        return cast("Tensor", self.output(rows, heads)).squeeze(2)


class CalibratedNetwork(nn.Module):
    """The network to export: the heads' mean logit, calibrated, as a probability of default."""

    def __init__(self, network: RiskNetwork, *, slope: float, intercept: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("slope", torch.tensor(slope, dtype=torch.float32))
        self.register_buffer("intercept", torch.tensor(intercept, dtype=torch.float32))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return the probability of default, float32 [N]."""
        logit = self.network(numeric, categorical).mean(dim=0)
        return torch.sigmoid(logit * self.get_buffer("slope") + self.get_buffer("intercept"))
