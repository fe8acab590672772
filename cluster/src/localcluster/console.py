"""Progress that a person can follow, and failures that say which step, why, and which log to read."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_SECONDS = 30.0
LOG_TAIL_LINES = 12


class ClusterError(Exception):
    """Something that a person has to know of: the message says what was wrong and what to do about it."""


class CommandError(ClusterError):
    """A program ended badly; `log` is where its output went."""

    def __init__(self, command: Sequence[str], returncode: int, log: Path) -> None:
        """Quote the end of the log, since that is where the reason mostly stands."""
        self.log = log
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])
        super().__init__(f"`{' '.join(command[:4])} …` ended with {returncode}\n{tail}\n  read {log}")


def say(text: str = "") -> None:
    """Write a line for the person at the terminal or the reader of the build log."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def step(name: str, log: Path | None = None) -> Iterator[None]:
    """Announce a step, show that it still lives every half minute, and say how long it took.

    Raises:
        ClusterError: with the step's name in front when the step failed.
    """
    started = time.monotonic()
    done = threading.Event()
    where = f" (log: {log})" if log else ""

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"   … {name}: {time.monotonic() - started:.0f} s so far{where}")

    say(f"-> {name}")
    threading.Thread(target=heartbeat, daemon=True).start()
    try:
        yield
    except ClusterError as error:
        raise ClusterError(f"step «{name}» failed: {error}") from error
    finally:
        done.set()
    say(f"   {name}: {time.monotonic() - started:.1f} s")


def run(command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program with its output appended to `log`.

    Raises:
        CommandError: when it did not end with 0.
        ClusterError: when there is no such program.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        try:
            result = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, cwd=cwd)
        except FileNotFoundError as error:
            raise ClusterError(f"`{command[0]}` is not installed") from error
    if result.returncode != 0:
        raise CommandError(command, result.returncode, log)


def output(command: Sequence[str], *, env: Mapping[str, str] | None = None, text: str | None = None) -> str:
    """Run a short program and return what it printed; `text` is its standard input.

    Raises:
        ClusterError: when it is not installed or did not end with 0; the message carries its complaint.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True, input=text or "", env=env)
    except FileNotFoundError as error:
        raise ClusterError(f"`{command[0]}` is not installed") from error
    if result.returncode != 0:
        complaint = result.stderr.strip() or result.stdout.strip()
        raise ClusterError(f"`{' '.join(command)}` ended with {result.returncode}: {complaint}")
    return result.stdout


def wait_for(what: str, ready: Callable[[], str | None], *, timeout_seconds: float, log: Path | None = None) -> None:
    """Call `ready` until it returns None; a string says what is still missing.

    Raises:
        ClusterError: when the time is over; the message carries the last thing that was missing.
    """
    deadline = time.monotonic() + timeout_seconds
    while (missing := ready()) is not None:
        if time.monotonic() > deadline:
            hint = f"\n  read {log}" if log else ""
            raise ClusterError(f"{what} not ready after {timeout_seconds:.0f} s: {missing}{hint}")
        time.sleep(0.2)
