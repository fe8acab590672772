"""Scenarios that run side by side: a test that is marked `@on_a_lane` starts with all others of its kind."""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from e2e.lanes import Lane

Scenario = Callable[..., None]


def on_a_lane(scenario: Scenario) -> Scenario:
    """Mark a test that runs on a lane beside the others; its first argument is the lane."""
    return _beside(scenario)


def on_two_lanes(scenario: Scenario) -> Scenario:
    """Mark a test that takes two lanes, which one operator watches; they are its first arguments."""
    return _beside(scenario, lanes=2)


def on_a_lane_of_its_own(scenario: Scenario) -> Scenario:
    """Mark a test that runs on a lane with an operator of its own, to which it does harm."""
    return _beside(scenario, own_operator=True)


def _beside(scenario: Scenario, *, own_operator: bool = False, lanes: int = 1) -> Scenario:
    def wait(outcomes: Mapping[str, Future[None]], request: pytest.FixtureRequest, **_: object) -> None:
        outcomes[request.node.nodeid].result()

    own = list(inspect.signature(scenario).parameters.values())[lanes:]
    asked = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("outcomes", "request")]
    wait.__signature__ = inspect.Signature([*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *asked])  # type: ignore[attr-defined]
    wait.__name__, wait.__doc__ = scenario.__name__, scenario.__doc__
    wait.scenario, wait.own_operator, wait.lanes = scenario, own_operator, lanes  # type: ignore[attr-defined]
    wait.pytestmark = getattr(scenario, "pytestmark", [])  # type: ignore[attr-defined]
    return wait


def run_all(
    items: Sequence[pytest.Item], shared: Sequence[Lane], own: Sequence[Lane]
) -> Iterator[dict[str, Future[None]]]:
    """Start every chosen scenario on the next free lane of its kind, and yield their outcomes."""
    free: dict[bool, queue.SimpleQueue[Lane]] = {False: queue.SimpleQueue(), True: queue.SimpleQueue()}
    for lane in (*shared, *own):
        free[lane.own_operator].put(lane)
    # One at a time collects its lanes: two that have one each would wait for each other.
    collecting = {False: threading.Lock(), True: threading.Lock()}

    def play(item: pytest.Function) -> None:
        scenario, kind = item.function.scenario, item.function.own_operator
        with collecting[kind]:
            taken = [free[kind].get() for _ in range(item.function.lanes)]
        try:
            scenario(*taken, **(item.callspec.params if hasattr(item, "callspec") else {}))
        except Exception as error:
            error.add_note("\n".join(lane.describe() for lane in taken))
            raise
        finally:
            for lane in taken:
                free[kind].put(lane)

    chosen = [item for item in items if isinstance(item, pytest.Function) and hasattr(item.function, "scenario")]
    with ThreadPoolExecutor(len(shared)) as many, ThreadPoolExecutor(max(1, len(own))) as few:
        yield {item.nodeid: (few if item.function.own_operator else many).submit(play, item) for item in chosen}
        for pool in (many, few):
            pool.shutdown(cancel_futures=True)
