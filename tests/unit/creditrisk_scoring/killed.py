"""Run as a program: bulk scoring that is killed again and again, each time at a random call of one of its functions.

A fork for each attempt, so that libraries are imported once. Prints how many attempts were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import creditrisk_scoring
from creditrisk_scoring.command import main

_SOURCES = str(Path(creditrisk_scoring.__file__).parent)


def attempt(arguments: list[str], calls: int) -> int:
    """Run in a fork that is killed at its call of that number; return the fork's wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = calls

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        # C functions count, too: a rename is one.
        if event in {"call", "c_call"} and frame.f_code.co_filename.startswith(_SOURCES):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    code = main(arguments)
    sys.setprofile(None)
    os._exit(code)


def kill_until_done(seed: int, most_calls: int, arguments: list[str]) -> int:
    """Return how often a run was killed until it was done."""
    draw, killed = random.Random(seed), 0
    while True:
        # Later attempts get further, or none would ever be done.
        status = attempt(arguments, draw.randint(1, most_calls) + killed * most_calls // 20)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return killed
        assert os.WTERMSIG(status) == signal.SIGKILL
        killed += 1


if __name__ == "__main__":
    sys.stderr.write(f"killed {kill_until_done(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])} times\n")
