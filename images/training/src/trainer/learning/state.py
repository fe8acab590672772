"""The state of training after an epoch, and its checkpoints."""

import io
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.learning.group import Group
from trainer.learning.optimizer import FusedAdamW

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochReport:
    """Results of one epoch; losses are mean log losses, in nats."""

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float


@dataclass
class TrainingState:
    """All state that changes during training; together with the seed, it determines every later step."""

    parameters: Sequence[Tensor]
    averages: Sequence[Tensor]
    optimizer: FusedAdamW
    best: list[Tensor]
    best_loss: float = math.inf
    best_epoch: int = 0
    epoch: int = 0
    history: list[EpochReport] = field(default_factory=list)

    @property
    def epochs_without_gain(self) -> int:
        """How many epochs came after the best one."""
        return self.epoch - 1 - self.best_epoch

    def end_epoch(self, report: EpochReport) -> None:
        """Take an epoch's result, and keep the averages if they are the best so far."""
        if report.validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = report.validation_loss, self.epoch
            for kept, current in zip(self.best, self.averages, strict=True):
                kept.copy_(current.detach())
        self.history.append(report)
        self.epoch += 1

    def to_bytes(self) -> bytes:
        """Return a checkpoint."""
        file = io.BytesIO()
        saved = {
            "parameters": [parameter.detach() for parameter in self.parameters],
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "epoch": self.epoch,
            "history": [asdict(report) for report in self.history],
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(saved, file)
        return file.getvalue()

    def load(self, checkpoint: bytes) -> None:
        """Go on from a checkpoint."""
        saved: dict[str, Any] = torch.load(
            io.BytesIO(checkpoint), map_location=self.parameters[0].device, weights_only=True
        )
        with torch.no_grad():
            for parameter, value in zip(self.parameters, saved["parameters"], strict=True):
                parameter.copy_(value)
        self.best = saved["best"]
        self.best_loss = saved["best_loss"]
        self.best_epoch = saved["best_epoch"]
        self.epoch = saved["epoch"]
        self.history = [EpochReport(**report) for report in saved["history"]]
        self.optimizer.load_state_dict(saved["optimizer"])


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint file of this process's pod.

    Attributes:
        path: The file, or None for none.
        group: The processes that train together. The first one of each pod writes, so that a training survives the loss
            of any pod but the last.
    """

    path: Path | None
    group: Group

    def write(self, state: TrainingState) -> None:
        """Replace the file by the current state."""
        if self.path is None or self.group.local_rank:
            return
        # Renaming is atomic: a process killed while writing leaves the previous one intact. Pods may share a folder.
        unfinished = self.path.with_suffix(f".unfinished-{self.group.rank}")
        unfinished.write_bytes(state.to_bytes())
        unfinished.replace(self.path)

    def resume(self, state: TrainingState) -> None:
        """Bring all processes to the newest state that any of them has."""
        own = b"" if self.path is None or self.group.local_rank or not self.path.exists() else self.path.read_bytes()
        if own:
            state.load(own)
        epochs = self.group.gather(state.epoch)
        if self.group.size > 1:
            newest = epochs.index(max(epochs))
            state.load(self.group.from_rank(newest, state.to_bytes() if self.group.rank == newest else b""))
        if state.epoch:
            logger.info("resuming after epoch %d from %s", state.epoch, self.path)
