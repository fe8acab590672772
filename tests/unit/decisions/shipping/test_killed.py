"""A shipper that is killed at any step of its work: the next one goes on, and each decision is there once."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from decisions.segments import folder
from decisions.shipping import database as postgres
from decisions.shipping.state import LogState, read_state
from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running

PACKAGES = ("decisions/shipping/", "decisions/segments/")


def in_child(work: Callable[[], None]) -> int:
    """Run something in a copy of this process, and return how that ended."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    try:
        work()
    finally:
        os._exit(0)


def step_counter(at: Callable[[int], None]) -> None:
    """Call `at` with the number of each step of the shipper: whatever it calls, and whatever returns to it."""
    steps = 0

    def step(frame: FrameType, *_: object) -> None:
        nonlocal steps
        if any(package in frame.f_code.co_filename for package in PACKAGES):
            steps += 1
            at(steps)

    sys.setprofile(step)


def steps_of(work: Callable[[], None], file: Path) -> int:
    """Return how many steps some work takes that is not killed."""

    def counted() -> None:
        def note(number: int) -> None:
            file.write_text(str(number))

        step_counter(note)
        work()
        sys.setprofile(None)

    assert in_child(counted) == 0
    return int(file.read_text())


def killed_at(last: int, work: Callable[[], None]) -> None:
    """Do some work in a child, and kill it at a step."""

    def doomed() -> None:
        step_counter(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == last else None)
        work()

    in_child(doomed)


def test_a_shipper_killed_at_some_steps_leaves_each_decision_once(database: DecisionsDatabase, tmp_path: Path) -> None:
    kill_and_ship(database, tmp_path, trials=8)


@pytest.mark.soak
def test_a_shipper_killed_at_many_steps_leaves_each_decision_once(database: DecisionsDatabase, tmp_path: Path) -> None:
    kill_and_ship(database, tmp_path, trials=200)


def kill_and_ship(database: DecisionsDatabase, tmp_path: Path, trials: int) -> None:
    """Kill shippers at so many steps, spread over all there are, and let the next one ship what they left."""
    logs = tmp_path / "logs"

    def ship() -> None:
        Running(logs, database.url).turn()

    def write(log: LogWriter) -> None:
        log.write_groups([2, 1])
        log.rotate()
        log.write_groups([3])
        log.rotate()
        log.write_groups([1])

    first = LogWriter(logs)
    write(first)
    steps = steps_of(ship, tmp_path / "steps")
    assert_each_once(database, first)
    written = [first]
    random.seed(4)
    for trial in range(trials):
        log = LogWriter(logs)
        write(log)
        written.append(log)
        # Spread over all steps, with chance where between.
        killed_at(int(steps * (trial + random.random()) / trials), ship)
        if trial % 3:
            killed_at(random.randrange(steps), ship)
        ship_rest = Running(logs, database.url)
        ship_rest.turn()
        ship_rest.stop()
        log.close()
    assert_each_once(database, *written)
    last = Running(logs, database.url)
    last.turn()
    last.stop()
    first.close()
    assert_each_once(database, *written)


@pytest.mark.parametrize(
    ("place", "name", "work_first", "shipped", "saved"),
    [
        (postgres, "_copy", True, 0, 0),  # between COPY and commit
        (LogState, "save", False, 3, 0),  # after the commit, before the state is saved
        (folder, "remove", False, 3, 3),  # before the file is deleted
    ],
)
def test_a_shipper_killed_at_a_named_step_leaves_each_decision_once(
    database: DecisionsDatabase, tmp_path: Path, *, place: object, name: str, work_first: bool, shipped: int, saved: int
) -> None:
    log = LogWriter(tmp_path)
    log.write_groups([2, 1])
    log.rotate()

    def doomed() -> None:
        original = getattr(place, name)

        def step(*arguments: object) -> None:
            if work_first:
                original(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(place, name, step)
        Running(tmp_path, database.url).turn()

    assert os.waitstatus_to_exitcode(in_child(doomed)) == -signal.SIGKILL
    assert (database.count(), read_state(log.path / "shipped.json").sequence) == (shipped, saved)
    next_one = Running(tmp_path, database.url)
    next_one.turn()
    log.close()
    assert_each_once(database, log)
    next_one.stop()
