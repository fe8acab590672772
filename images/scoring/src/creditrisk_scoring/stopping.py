"""The end of this process by a signal, which libraries between its handler and the command may make other errors of."""

from __future__ import annotations

import sys
from types import FrameType

_received = list[int]()


def stop(number: int, _: FrameType | None) -> None:
    """End as a process that the signal has killed, but with the chance to give a claim back: a handler of signals."""
    _received.append(number)
    sys.exit(128 + number)


def go_on_unless_stopped() -> None:
    """End this process if a signal said so before."""
    if _received:
        sys.exit(128 + _received[0])
