"""Training progress: a progress bar on a terminal, log lines elsewhere."""

import logging
import sys
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from trainer.learning.state import EpochReport

logger = logging.getLogger(__name__)


class Progress:
    """Context manager that reports each epoch's losses and an upper bound on the remaining time."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, report: EpochReport) -> None:
        """Report a finished epoch."""
        done = report.epoch + 1
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=report.epochs, initial=report.epoch, desc="training", unit="epoch")
            self._bar.set_postfix(loss=f"{report.validation_loss:.4f}")
            self._bar.update()
            return
        logger.info(
            "epoch %d of at most %d: training loss %.4f, validation loss %.4f, at most %.0f s left",
            done,
            report.epochs,
            report.train_loss,
            report.validation_loss,
            (report.epochs - done) * report.seconds,
        )
