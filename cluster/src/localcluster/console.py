"""Progress for people to follow, and failures that name the step, the reason and the log to read."""

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
POLL_SECONDS = 0.2


class ClusterError(Exception):
    """A failure that is reported to the user; the message says what went wrong and what to do about it."""


class CommandError(ClusterError):
    """A program failed; `log` has its output."""

    def __init__(self, command: Sequence[str], returncode: int, log: Path) -> None:
        """Quote the end of the log, which usually has the reason."""
        self.log = log
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])
        super().__init__(f"`{' '.join(command[:4])} …` failed with exit code {returncode}\n{tail}\n  full log: {log}")


def say(text: str = "") -> None:
    """Print a line and flush, so that it also shows up in a CI log at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def step(name: str, log: Path | None = None) -> Iterator[None]:
    """Announce a step, report every half minute that it is still running, and print how long it took.

    Raises:
        ClusterError: The step failed; the message starts with the step's name.
    """
    started = time.monotonic()
    done = threading.Event()
    where = f" (log: {log})" if log else ""

    def heartbeat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"   … {name}: still running after {time.monotonic() - started:.0f} s{where}")

    say(f"-> {name}")
    threading.Thread(target=heartbeat, daemon=True).start()
    try:
        yield
    except ClusterError as error:
        raise ClusterError(f"{name}: {error}") from error
    finally:
        done.set()
    say(f"   done in {time.monotonic() - started:.1f} s")


def run(command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program with its output appended to `log`.

    Raises:
        CommandError: The program failed.
        ClusterError: The program is not installed.
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
        ClusterError: The program is not installed or failed; the message has its error output.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True, input=text or "", env=env)
    except FileNotFoundError as error:
        raise ClusterError(f"`{command[0]}` is not installed") from error
    if result.returncode != 0:
        problem = result.stderr.strip() or result.stdout.strip()
        raise ClusterError(f"`{' '.join(command)}` failed with exit code {result.returncode}: {problem}")
    return result.stdout


def wait_for(what: str, problem: Callable[[], str | None], *, timeout_seconds: float, log: Path | None = None) -> None:
    """Call `problem` until it returns None; a string says why `what` is not ready yet.

    Raises:
        ClusterError: The timeout expired; the message has the last problem.
    """
    deadline = time.monotonic() + timeout_seconds
    while (reason := problem()) is not None:
        if time.monotonic() > deadline:
            hint = f"\n  log: {log}" if log else ""
            raise ClusterError(f"{what} was not ready within {timeout_seconds:.0f} s: {reason}{hint}")
        time.sleep(POLL_SECONDS)
