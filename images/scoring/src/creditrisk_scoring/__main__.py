"""`python -m creditrisk_scoring score IN OUT`, `... status OUT`: what `creditrisk bulk` runs."""

from __future__ import annotations

import signal
import sys

from creditrisk_scoring import command, status_command
from creditrisk_scoring.stopping import stop

_COMMANDS = {"score": command.main, "status": status_command.main}


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in _COMMANDS:
        # The first process of a container would not be ended by the signal otherwise.
        signal.signal(signal.SIGTERM, stop)
        sys.exit(_COMMANDS[sys.argv[1]](sys.argv[2:]))
    sys.stderr.write("usage: python -m creditrisk_scoring score IN OUT (--model FOLDER | --version N) ...\n"
                     "       python -m creditrisk_scoring status OUT\n")  # fmt: skip
    sys.exit(2)
