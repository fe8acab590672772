"""SIGTERM handling: end the training run at any point except inside a critical section."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trainer.errors import TerminatedError

logger = logging.getLogger("trainer")


def raise_on_sigterm() -> None:
    """Make SIGTERM raise TerminatedError; call this in the main thread."""
    signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def sigterm_deferred() -> Iterator[None]:
    """Defer SIGTERM until the end of the block.

    If it were raised inside a database driver, for example, it would leave a transaction open that blocks the run's
    final update.
    """
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread receives signals.
        yield
        return
    pending: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        if pending:
            signal.raise_signal(pending[0])


def _terminate(_number: int, _frame: FrameType | None) -> None:
    logger.warning("terminated; a restart with the same data and arguments resumes from the last checkpoint")
    raise TerminatedError
