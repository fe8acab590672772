"""The training loop: batches from memory, early stopping, a checkpoint per epoch, calibration at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.data import Loans
from trainer.features import CATEGORICAL
from trainer.network import Network, quantile_edges

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hyperparameters:
    """What a person may turn; the rest follows from the data."""

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    patience: int = 6
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """One epoch's mean losses (log loss, natural logarithm) on the training and validation rows."""

    number: int
    training_loss: float
    validation_loss: float


def fit(
    training: Loans, validation: Loans, parameters: Hyperparameters, checkpoint: Path, on_epoch: Callable[[Epoch], None]
) -> Network:
    """Train a network, going on from `checkpoint` when it holds a run of the same data and parameters.

    The weights of the best epoch on the validation rows are kept; the checkpoint is removed at the end.
    """
    torch.manual_seed(parameters.seed)
    network = Network(quantile_edges(training), tuple(len(feature.categories) for feature in CATEGORICAL))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=parameters.learning_rate, weight_decay=parameters.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, parameters.epochs)
    state = _State(network, optimizer, schedule, {"data": training.sha256, **asdict(parameters)})
    state.load(checkpoint)
    rows, held_out = _tensors(training), _tensors(validation)
    started, first = time.monotonic(), state.epoch + 1
    for number in range(first, parameters.epochs + 1):
        training_loss = _train_epoch(network, optimizer, rows, parameters, number)
        schedule.step()
        validation_loss = _loss(network, held_out)
        state.after(number, validation_loss)
        state.save(checkpoint)
        on_epoch(Epoch(number, training_loss, validation_loss))
        left = (time.monotonic() - started) / (number - first + 1) * (parameters.epochs - number)
        log.info(
            "epoch %d of at most %d: training loss %.4f, validation loss %.4f, at most %.0f s left",
            number, parameters.epochs, training_loss, validation_loss, left,
        )  # fmt: skip
        if number - state.best_epoch >= parameters.patience:
            log.info("no better for %d epochs: the weights of epoch %d are kept", parameters.patience, state.best_epoch)
            break
    network.load_state_dict(state.best)
    _calibrate(network, held_out)
    checkpoint.unlink(missing_ok=True)
    return network.eval()


class _State:
    """What a run must remember to go on after its process was lost."""

    def __init__(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        identity: dict[str, object],
    ) -> None:
        self._network, self._optimizer, self._schedule = network, optimizer, schedule
        self._identity = identity
        self.epoch = 0
        self.best_epoch = 0
        self.best_loss = float("inf")
        self.best = {name: value.clone() for name, value in network.state_dict().items()}

    def after(self, epoch: int, validation_loss: float) -> None:
        """Note an epoch's end and keep its weights if they are the best so far."""
        self.epoch = epoch
        if validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = validation_loss, epoch
            self.best = {name: value.clone() for name, value in self._network.state_dict().items()}

    def save(self, file: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        document = {
            "identity": self._identity,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "best": self.best,
        }
        torch.save(document, partial)
        partial.replace(file)

    def load(self, file: Path) -> None:
        """Go on from a checkpoint of the same run; another run's is left alone and overwritten later."""
        if not file.exists():
            return
        saved = torch.load(file, weights_only=True)
        if saved["identity"] != self._identity:
            return
        self._network.load_state_dict(saved["network"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._schedule.load_state_dict(saved["schedule"])
        self.epoch, self.best_epoch = saved["epoch"], saved["best_epoch"]
        self.best_loss, self.best = saved["best_loss"], saved["best"]
        log.info("going on after epoch %d of an earlier run that did not end", self.epoch)


def predict(network: Network, loans: Loans) -> npt.NDArray[np.float32]:
    """Return the probability of default of each loan, float32 [N]."""
    numeric, categorical, _ = _tensors(loans)
    with torch.no_grad():
        scores: npt.NDArray[np.float32] = network(numeric, categorical).numpy()
    return scores


def _tensors(loans: Loans) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(loans.numeric), torch.from_numpy(loans.categorical), torch.from_numpy(loans.default)


def _train_epoch(
    network: Network,
    optimizer: torch.optim.Optimizer,
    rows: tuple[Tensor, Tensor, Tensor],
    parameters: Hyperparameters,
    epoch: int,
) -> float:
    """Run over all rows once, in an order that depends on seed and epoch alone, so that a resumed run sees the same."""
    network.train()
    numeric, categorical, default = rows
    torch.manual_seed(parameters.seed * 10_007 + epoch)
    total = 0.0
    for batch in torch.split(torch.randperm(len(default)), parameters.batch_size):
        optimizer.zero_grad(set_to_none=True)
        logits = network.logits(numeric[batch], categorical[batch])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, default[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(default)


def _loss(network: Network, rows: tuple[Tensor, Tensor, Tensor]) -> float:
    network.eval()
    numeric, categorical, default = rows
    with torch.no_grad():
        logits = network.logits(numeric, categorical)
        return float(nn.functional.binary_cross_entropy_with_logits(logits, default))


def _calibrate(network: Network, rows: tuple[Tensor, Tensor, Tensor]) -> None:
    """Fit slope and shift of the log-odds on the validation rows (Platt scaling), which training did not see."""
    network.eval()
    numeric, categorical, default = rows
    with torch.no_grad():
        logits = network.logits(numeric, categorical).clone()
    slope, shift = torch.ones((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([slope, shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(logits * slope + shift, default)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        network.slope.copy_(slope)
        network.shift.copy_(shift)
