"""The training loop: packed heads, validated together on the folds they left out; resumable after every epoch."""

import math
import struct
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trainer.data.dataset import Dataset
from trainer.data.inputs import Inputs
from trainer.learning.blending import ONLY_HEADS, Blend, blend, join
from trainer.learning.group import ALONE, Group
from trainer.learning.hyperparameters import Hyperparameters, Precision
from trainer.learning.linear import LinearModels, fit_linear, rows_to_fit
from trainer.learning.masking import mask
from trainer.learning.network import Encoder, Encoding, Part, RiskNetwork
from trainer.learning.optimizer import FusedAdamW
from trainer.learning.prior_shift import RowWeights
from trainer.learning.rows import TrainingRows, load_rows, shuffled, slices
from trainer.learning.state import Checkpoints, EpochReport, TrainingState
from trainer.termination import sigterm_deferred

_WARM_UP_SHARE = 0.1
# How freely a linear model's weight of a bin may grow beside those of z-scores and categories: it is close to a line
# in each number, and bends where many rows ask for it.
_BIN_SPREAD = 0.5


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        network: The heads at their best epoch and the linear model, blended.
        out_of_fold_rows: Indices of training rows that at least one head did not train on, [M].
        out_of_fold_logit: Logit of those rows, blended from the linear model and the heads that were not trained on
            them, float64 [M].
        history: One report per epoch, including epochs before a resume.
    """

    network: RiskNetwork
    out_of_fold_rows: npt.NDArray[np.int64]
    out_of_fold_logit: npt.NDArray[np.float64]
    history: tuple[EpochReport, ...]


def be_deterministic() -> None:
    """Make PyTorch compute the same bits each time."""
    torch.use_deterministic_algorithms(mode=True)
    # By default every new tensor would be filled first, to guard against reads of uninitialized memory, which this code
    # does not do.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # created on import


def fit(
    data: Dataset,
    *,
    inputs: Inputs,
    hyperparameters: Hyperparameters,
    seed: int,
    on_epoch: Callable[[EpochReport], None],
    checkpoint: Path | None = None,
    group: Group = ALONE,
) -> Fitted:
    """Train until the heads improve no more; resume from `checkpoint` if that file exists.

    The model is a mean of heads and of ridge logistic regressions, weighted by their predictions of left-out folds: the
    fewer rows, defaults, or deviations from additivity there are, the more it is the latter. So it is not worse than
    they are where the network has too little to learn from.

    Args:
        data: Training rows; both outcomes must have weight.
        inputs: What the columns of the rows may hold; what they may but hardly do is masked in (see `mask`).
        hyperparameters: Fully resolved hyperparameters (see `Hyperparameters.for_rows`).
        seed: Seed of the initial weights, folds, batches and dropout.
        on_epoch: Called after each epoch, but not for epochs restored from a checkpoint.
        checkpoint: File to keep progress in, or None.
        group: The processes that train this network together. All call this with the same arguments; each computes its
            share of every batch, and all of them return the same network, up to the last bits of what comes after the
            epochs.
    """
    device = group.device
    torch.manual_seed(seed)
    data = mask(data, inputs, seed=seed)
    encoding = Encoding.fit(data.numeric, inputs, bins=hyperparameters.bins)
    network = RiskNetwork(encoding, hyperparameters.architecture).to(device)
    weights = RowWeights.of(data.target, data.weight, hyperparameters.class_weight)
    network.start_at(weights.default_rate)
    rows = load_rows(data, weights, network.encoder, hyperparameters, seed, device)
    # A linear model takes two units of each hidden layer.
    models = _fit_linear(rows, network.encoder, hyperparameters) if min(hyperparameters.hidden) > 1 else None
    if models:
        linear = torch.empty_like(rows.target)
        for part in slices(0, len(linear)):
            linear[part] = models.out_of_fold(rows.encoded[part], rows.fold[part])
        rows = replace(rows, linear=linear)
    head_fold = torch.arange(hyperparameters.heads, device=device) % hyperparameters.folds
    head_fold = head_fold.sort().values
    averaged = deepcopy(network)
    parameters, averages = list(network.parameters()), list(averaged.parameters())
    optimizer = FusedAdamW(parameters, averages, weight_decay=hyperparameters.weight_decay)
    state = TrainingState(parameters, averages, optimizer, best=[average.detach().clone() for average in averages])
    checkpoints = Checkpoints(checkpoint, group)
    checkpoints.resume(state)

    while state.epoch < hyperparameters.epochs and state.epochs_without_gain < hyperparameters.patience:
        started = time.perf_counter()
        # Each epoch's randomness depends only on seed and epoch, so a resumed run repeats an uninterrupted one.
        torch.manual_seed(seed * 1_000_003 + state.epoch)
        train_loss = _train_epoch(
            network, optimizer, rows, head_fold, hyperparameters=hyperparameters, epoch=state.epoch, group=group
        )
        validation_loss = _agreed(_validate(averaged, rows, group).loss, group)
        report = EpochReport(
            epoch=state.epoch,
            epochs=hyperparameters.epochs,
            train_loss=train_loss,
            validation_loss=validation_loss,
            learning_rate=optimizer.learning_rate,
            seconds=time.perf_counter() - started,
        )
        state.end_epoch(report)
        checkpoints.write(state)
        with sigterm_deferred():
            on_epoch(report)

    with torch.no_grad():
        for average, best in zip(averages, state.best, strict=True):
            average.copy_(best)
    best_heads = _validate(averaged, rows, group)
    with torch.no_grad():
        # Back to the training data's own share of defaults.
        averaged.output.bias.sub_(rows.shift)
    joined = join(averaged, models, best_heads.blend, encoding=encoding, architecture=hyperparameters.architecture)
    positions = np.concatenate([rows.position[fold.rows] for fold in rows.held_out])
    return Fitted(joined.eval(), positions, best_heads.logit.cpu().numpy().astype(np.float64), tuple(state.history))


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate at a step: linear warm-up over the first tenth of the steps, then a half cosine down to zero."""
    warm_up = max(1, int(steps * _WARM_UP_SHARE))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _fit_linear(rows: TrainingRows, encoder: Encoder, hyperparameters: Hyperparameters) -> LinearModels:
    chosen = rows_to_fit(len(rows.target)).to(rows.target.device)
    spread = torch.ones(encoder.out_features, device=chosen.device)
    spread[encoder.bins] = _BIN_SPREAD
    return fit_linear(
        rows.encoded[chosen],
        rows.target[chosen],
        rows.fold[chosen],
        rows.validation_weight[chosen],
        folds=hyperparameters.folds,
        spread=spread,
        directions=encoder.directions.to(spread.device),
    )


def _train_epoch(
    network: RiskNetwork,
    optimizer: FusedAdamW,
    rows: TrainingRows,
    head_fold: Tensor,
    *,
    hyperparameters: Hyperparameters,
    epoch: int,
    group: Group,
) -> float:
    network.train()
    parameters = list(network.parameters())
    half = hyperparameters.precision is Precision.BFLOAT16
    batches = torch.split(shuffled(rows.useful), hyperparameters.batch_rows)
    total = torch.zeros((), device=rows.target.device)
    for number, batch in enumerate(batches):
        optimizer.learning_rate = learning_rate(
            epoch * len(batches) + number, hyperparameters.epochs * len(batches), hyperparameters.learning_rate
        )
        weight = rows.weights(batch, head_fold)
        own = Part(group.share(len(batch)), of=len(batch))
        with torch.autocast(rows.target.device.type, torch.bfloat16, enabled=half):
            logits = network.logits(rows.encoded[batch[own.rows]], part=own).float()
        target = rows.target.index_select(0, batch[own.rows]).expand_as(logits)
        # Summed over heads, so that each head trains as if it were alone; and, as all processes' losses make up that of
        # the batch, divided by the rows of the batch.
        loss = binary_cross_entropy_with_logits(logits, target, weight=weight[:, own.rows], reduction="sum") / len(
            batch
        )
        loss.backward()  # type: ignore[no-untyped-call]
        group.sum_gradients(parameters)
        optimizer.step()
        total += loss.detach() * len(batch) / weight.sum().clamp(min=1)
    group.sum(total)
    return float(total / len(batches))


@torch.no_grad()
def _held_out_logits(network: RiskNetwork, rows: TrainingRows, group: Group) -> Tensor:
    """Return the mean logit of the left-out rows from the heads that hold them out, float32 [M]."""
    network.eval()
    folds = []
    for fold in rows.held_out:
        first, last = int(fold.rows.start), int(fold.rows.stop)
        own = group.share(last - first)
        # Each process adds what it computed to the zeros of the others. Parts in a list would be kept between the freed
        # layers of each, and fragment memory.
        logits = torch.zeros(last - first, device=rows.target.device)
        for part in slices(first + own.start, first + own.stop):
            logits[part.start - first : part.stop - first] = network.logits(rows.encoded[part], fold.heads).mean(dim=0)
        folds.append(logits)
    joined = torch.cat(folds)
    group.sum(joined)
    return joined


def _agreed(loss: float, group: Group) -> float:
    """Return rank 0's loss: processors of different kinds may round differently, but all must stop together."""
    return float(struct.unpack("d", group.from_rank(0, struct.pack("d", loss)))[0])


@dataclass(frozen=True)
class _Validation:
    """How well the rows of the left-out folds are predicted.

    Attributes:
        blend: The weights of the linear models and the heads that do it best.
        logit: float32 [M].
        loss: Mean log loss, in nats.
    """

    blend: Blend
    logit: Tensor
    loss: float


@torch.no_grad()
def _validate(network: RiskNetwork, rows: TrainingRows, group: Group) -> _Validation:
    heads = _held_out_logits(network, rows, group) - rows.shift
    target, weight = (
        torch.cat([values[fold.rows] for fold in rows.held_out]) for values in (rows.target, rows.validation_weight)
    )
    weights, logit = ONLY_HEADS, heads
    if rows.linear is not None:
        linear = torch.cat([rows.linear[fold.rows] for fold in rows.held_out])
        weights = blend(linear, heads, target, weight)
        logit = weights.apply(linear, heads)
    return _Validation(
        weights, logit, float(binary_cross_entropy_with_logits(logit, target, weight=weight) / weight.mean())
    )
