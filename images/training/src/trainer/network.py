"""The network: raw features in, probability of default out, with scaling and calibration inside."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from trainer.data import Loans

HIDDEN = (128, 64)
DROPOUT = 0.15
BINS = 16


class Network(nn.Module):
    """A fully connected network over piecewise-linear encoded numbers and one-hot categories.

    Each number becomes `BINS` values in 0..1 that say how far it reaches through each of its quantile bins (Gorishniy
    et al., On Embeddings for Numerical Features in Tabular Deep Learning, 2022): a small network then bends where the
    data does.
    """

    lower: Tensor
    width: Tensor
    offsets: Tensor
    slope: Tensor
    shift: Tensor

    def __init__(self, edges: Tensor, category_sizes: tuple[int, ...]) -> None:
        """Take the bins' edges, float32 [numeric features, BINS + 1], and each categorical feature's size."""
        super().__init__()
        self.register_buffer("lower", edges[:, :-1].clone())
        self.register_buffer("width", (edges[:, 1:] - edges[:, :-1]).clone())
        self.register_buffer("offsets", torch.tensor([0, *np.cumsum(category_sizes)[:-1]], dtype=torch.int64))
        self.numeric = nn.Linear(edges.shape[0] * BINS, HIDDEN[0])
        # A sum of rows of this table is the one-hot encoding times a weight matrix, without the zeros.
        self.categories = nn.Embedding(sum(category_sizes), HIDDEN[0])
        nn.init.normal_(self.categories.weight, std=0.05)
        self.rest = nn.Sequential(
            nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN[0], HIDDEN[1]), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN[1], 1),
        )  # fmt: skip
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def logits(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return uncalibrated log-odds, float32 [N]."""
        reach = torch.clamp((numeric.unsqueeze(-1) - self.lower) / self.width, 0.0, 1.0)
        first = self.numeric(reach.flatten(1)) + self.categories(categorical + self.offsets).sum(1)
        log_odds: Tensor = self.rest(first)
        return log_odds.squeeze(-1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return calibrated probabilities of default, float32 [N].

        Args:
            numeric: float32 [N, 5] in the declared units.
            categorical: int64 [N, 6], positions in each feature's categories.
        """
        return torch.sigmoid(self.logits(numeric, categorical) * self.slope + self.shift)


def quantile_edges(loans: Loans) -> Tensor:
    """Return each numeric feature's bin edges from its quantiles, made to rise strictly."""
    edges = np.quantile(loans.numeric.astype(np.float64), np.linspace(0, 1, BINS + 1), axis=0).T
    spread = np.maximum(edges[:, -1:] - edges[:, :1], 1.0)
    rising = np.maximum.accumulate(edges + np.arange(BINS + 1) * spread * 1e-6, axis=1)
    return torch.tensor(rising, dtype=torch.float32)
