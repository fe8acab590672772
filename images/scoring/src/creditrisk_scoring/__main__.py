"""`python -m creditrisk_scoring score IN OUT`, `... status OUT`: what `creditrisk bulk` runs."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from creditrisk_scoring import command, status_command

_COMMANDS = {"score": command.main, "status": status_command.main}


def _stop(number: int, _: FrameType | None) -> None:
    """End as a process that the signal has killed, but with the chance to give a claim back."""
    sys.exit(128 + number)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in _COMMANDS:
        # The first process of a container would not be ended by the signal otherwise.
        signal.signal(signal.SIGTERM, _stop)
        sys.exit(_COMMANDS[sys.argv[1]](sys.argv[2:]))
    sys.stderr.write("usage: python -m creditrisk_scoring score IN OUT (--model FOLDER | --version N) ...\n"
                     "       python -m creditrisk_scoring status OUT\n")  # fmt: skip
    sys.exit(2)
