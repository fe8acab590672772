"""Training rows as the fit takes them: encoded once, or of mapped data whenever they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.data.dataset import Dataset
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.network import Encoder
from trainer.learning.prior_shift import RowWeights

_EVALUATION_ROWS = 16_384
# More rows than a window are shuffled as blocks first; a window then takes its rows from some places of the data.
_BLOCK_ROWS, _WINDOW_ROWS = 1_024, 524_288


@dataclass(frozen=True)
class Fold:
    """The rows of one validation fold and the heads that hold it out; both are contiguous."""

    rows: slice
    heads: slice


@dataclass(frozen=True)
class EncodedRows:
    """Rows as the encoder makes them, sorted by fold: once for all epochs, or of mapped data whenever they are needed.

    Attributes:
        data: The rows, in their own order.
        position: Position in `data` of each row, int64 [N].
        encoder: The encoder, on the device that the rows are needed on.
        kept: All of them, float32 [N, encoder.out_features]; None if they would not fit into memory.
    """

    data: Dataset
    position: npt.NDArray[np.int64]
    encoder: Encoder
    kept: Tensor | None = None

    @torch.no_grad()
    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return rows, float32 [M, encoder.out_features]."""
        if self.kept is not None:
            return self.kept[rows] if isinstance(rows, slice) else self.kept.index_select(0, rows)
        chosen = self.position[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        device = self.encoder.get_buffer("low").device
        return self.encoder(  # type: ignore[no-any-return]
            torch.from_numpy(self.data.numeric[chosen]).to(device),
            torch.from_numpy(self.data.categorical[chosen]).to(device),
        )

    def keep(self) -> "EncodedRows":
        """Return the same rows, encoded once."""
        width, device = self.encoder.out_features, self.encoder.get_buffer("low").device
        kept = torch.empty(len(self.position), width, device=device)
        for rows in slices(0, len(self.position)):
            kept[rows] = self[rows]
        return replace(self, kept=kept)


def slices(start: int, stop: int) -> Iterator[slice]:
    """Divide rows into parts that are evaluated at once."""
    return (slice(first, min(first + _EVALUATION_ROWS, stop)) for first in range(start, stop, _EVALUATION_ROWS))


@dataclass(frozen=True)
class TrainingRows:
    """Training rows, sorted by fold; all but the encoded ones are on the device.

    Attributes:
        encoded: The rows as the encoder makes them.
        target: float32 [N].
        weight: What a row counts in training, float32 [N]; its mean is 1.
        validation_weight: What it counts in validation and in linear models, float32 [N]; its mean is 1, too. Unlike
            the former, it is without class weights.
        shift: What class weights add to the log-odds of default.
        linear: Each row's logit from a linear model that was fitted without its fold, float32 [N]; None without one.
        fold: Fold of each row, ascending, int64 [N].
        position: Position of each row in the data, int64 [N].
        held_out: The folds that at least one head holds out.
        useful: Indices of the rows that at least one head trains on; those of more rows than a window, in the order of
            the data.
    """

    encoded: EncodedRows
    target: Tensor
    weight: Tensor
    validation_weight: Tensor
    shift: float
    linear: Tensor | None
    fold: Tensor
    position: npt.NDArray[np.int64]
    held_out: tuple[Fold, ...]
    useful: Tensor

    def weights(self, rows: Tensor, head_fold: Tensor) -> Tensor:
        """Return a row's weight where a head may train on it, else 0; float32 [heads, rows]."""
        return (self.fold.index_select(0, rows)[None, :] != head_fold[:, None]) * self.weight.index_select(0, rows)


@torch.no_grad()
def load_rows(
    data: Dataset,
    weights: RowWeights,
    encoder: Encoder,
    hyperparameters: Hyperparameters,
    seed: int,
    device: torch.device,
) -> TrainingRows:
    """Sort rows by fold, and encode them unless they are mapped files, which may not fit into memory."""
    folds = hyperparameters.folds
    drawn = _draw_folds(data.target, folds, seed)
    position = np.argsort(drawn, kind="stable")
    fold = drawn[position]
    head_fold = np.sort(np.arange(hyperparameters.heads) % folds)
    row_edges, head_edges = (np.searchsorted(numbers, np.arange(folds + 1)) for numbers in (fold, head_fold))
    encoded = EncodedRows(data, position, encoder)
    useful = np.flatnonzero((fold[:, None] != np.unique(head_fold)).any(axis=1))
    if len(useful) > _WINDOW_ROWS:
        useful = useful[np.argsort(position[useful])]
    return TrainingRows(
        encoded=encoded if data.storage.is_mapped else encoded.keep(),
        target=torch.from_numpy(data.target[position]).to(device),
        weight=torch.from_numpy(weights.training[position].astype(np.float32)).to(device),
        validation_weight=torch.from_numpy(weights.validation[position].astype(np.float32)).to(device),
        shift=weights.shift,
        linear=None,
        fold=torch.from_numpy(fold).to(device),
        position=position,
        held_out=tuple(
            Fold(slice(*rows), slice(*heads))
            for rows, heads in zip(pairwise(row_edges), pairwise(head_edges), strict=True)
            if heads[0] < heads[1]
        ),
        useful=torch.from_numpy(useful).to(device),
    )


def _draw_folds(target: npt.NDArray[np.float32], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw each row's fold; all folds have the same number of defaults, or one more or less."""
    order = np.random.default_rng(seed).permutation(len(target))
    drawn = np.empty(len(target), dtype=np.int64)
    drawn[order[np.argsort(target[order], kind="stable")]] = np.arange(len(target)) % folds
    return drawn


def shuffled(rows: Tensor) -> Tensor:
    """Return the rows of an epoch in the order in which they are trained on, int64 [N]; it depends on torch's seed.

    Any order is as likely as any other for up to a window of rows. More are divided into blocks; a window takes blocks
    from anywhere, and its rows are shuffled. So an epoch reads each part of the data once, whatever does not fit into
    memory, and still a step's rows come from hundreds of places of it.

    Args:
        rows: In the order of the data, [N].
    """
    if len(rows) <= _WINDOW_ROWS:
        return rows[torch.randperm(len(rows), device=rows.device)]
    blocks = torch.split(rows, _BLOCK_ROWS)
    windows = torch.split(torch.randperm(len(blocks)), _WINDOW_ROWS // _BLOCK_ROWS)
    whole = (torch.cat([blocks[block] for block in window.tolist()]) for window in windows)
    return torch.cat([window[torch.randperm(len(window), device=rows.device)] for window in whole])
