"""SIGTERM: it ends a training wherever it stands, but not in the middle of what must be whole."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trainer.errors import TerminatedError

logger = logging.getLogger("trainer")


def heed() -> None:
    """Let SIGTERM raise TerminatedError from now on; to be called in the main thread."""
    signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGTERM wait until the block is through.

    Raised inside a database's driver, say, it would leave a transaction open that the run's last words then wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals come to the main thread alone.
        yield
        return
    waiting: list[int] = []
    heeded = signal.signal(signal.SIGTERM, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, heeded)
        if waiting:
            signal.raise_signal(waiting[0])


def _terminate(_number: int, _frame: FrameType | None) -> None:
    logger.warning("terminated: the next start with the same data and arguments goes on from the last checkpoint")
    raise TerminatedError
