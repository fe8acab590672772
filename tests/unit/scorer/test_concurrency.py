"""The bound on running requests: how it follows what requests wait, and which refused connections are read again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from scorer.http import concurrency
from scorer.http.concurrency import LEAST_REQUESTS, MEASUREMENTS, TARGET_SECONDS, TURNS, Concurrency, next_limit


class Connection:
    """A connection that notes when it is read again, and whether what it then reads has waited for too long."""

    def __init__(self) -> None:
        self.waited = False
        self.resumed: list[bool] = []

    def resume(self) -> None:
        self.resumed.append(self.waited)


@pytest.mark.parametrize(
    ("limit", "wait", "most", "expected"),
    [
        (256, 0.0, 256, 256),
        (200, TARGET_SECONDS, 256, 216),
        (250, 0.0, 256, 256),
        (8, 0.0, 10, 9),
        (256, 1.25 * TARGET_SECONDS, 256, 204),
        (256, 100.0, 256, 128),
        (100, 100.0, 256, LEAST_REQUESTS),
        (2, 100.0, 2, 2),
    ],
)
def test_the_limit_falls_in_proportion_and_rises_in_steps(limit: int, wait: float, most: int, expected: int) -> None:
    assert next_limit(limit, wait, most) == expected


async def measured(requests: Concurrency, turn_seconds: float) -> int:
    """Return the limit after one decision in an event loop whose turns take so long."""
    loop, busy = asyncio.get_running_loop(), True

    def work() -> None:
        time.sleep(turn_seconds)
        if busy:
            loop.call_soon(work)

    work()
    async with asyncio.timeout(30):
        for _ in range(MEASUREMENTS):
            requests.measure(loop)
            while requests.measuring:
                await asyncio.sleep(0)
    busy = False
    return requests.limit


async def test_long_turns_lower_the_limit() -> None:
    assert await measured(Concurrency(256), 2 * TARGET_SECONDS / TURNS) < 256


async def test_short_turns_raise_a_limit_that_has_fallen(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may keep this process waiting.
    monkeypatch.setattr(concurrency, "TARGET_SECONDS", 10)
    requests = Concurrency(256)
    requests.limit = LEAST_REQUESTS
    assert await measured(requests, 0) == LEAST_REQUESTS + 16


async def test_one_long_turn_among_short_ones_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "TARGET_SECONDS", 0.4)
    requests, loop = Concurrency(256), asyncio.get_running_loop()
    for number in range(MEASUREMENTS):
        requests.measure(loop)
        if not number:
            loop.call_soon(time.sleep, 0.5)
        while requests.measuring:
            await asyncio.sleep(0.01)
    assert requests.limit == 256


def pause(requests: Concurrency, tasks: list[None], count: int) -> list[Connection]:
    """Refuse and pause connections while the service is full."""
    loop, connections = asyncio.get_running_loop(), [Connection() for _ in range(count)]
    for connection in connections:
        assert requests.full(tasks, loop)
        requests.pause(connection, loop, tasks)
    return connections


async def resumed(connections: list[Connection], count: int) -> list[Connection]:
    """Return which connections were resumed, once so many of them were."""
    async with asyncio.timeout(10):
        while len(found := [connection for connection in connections if connection.resumed]) < count:
            await asyncio.sleep(0.001)
    return found


async def test_connections_are_not_resumed_before_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "MAX_PAUSE_SECONDS", 60)
    tasks: list[None] = [None] * 5
    connections = pause(Concurrency(5), tasks, 6)
    await asyncio.sleep(3 * concurrency.CALM_SECONDS)
    assert await resumed(connections, 0) == []
    tasks.clear()
    # As many as there is room for, the last ones first, as often as the room stays.
    assert len(await resumed(connections, 5)) >= 5
    assert len(await resumed(connections, 6)) == 6
    assert [connection.resumed for connection in connections] == [[False]] * 6


async def test_while_the_service_is_full_only_those_that_were_just_refused_get_a_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(concurrency, "MAX_PAUSE_SECONDS", 60)
    monkeypatch.setattr(concurrency, "CALM_SECONDS", 60)
    tasks: list[None] = [None] * 40
    requests = Concurrency(40)
    connections = pause(requests, tasks, 6)
    tasks.clear()
    assert await resumed(connections, 2) == connections[4:]
    await asyncio.sleep(3 * concurrency.LOOK_SECONDS)
    assert await resumed(connections, 2) == connections[4:]


async def test_what_waited_for_the_longest_pause_is_refused_and_what_comes_later_is_not() -> None:
    requests = Concurrency(1)
    tasks: list[None] = [None]
    connections = pause(requests, tasks, 2)
    async with asyncio.timeout(10):
        while not all(connection.resumed and not connection.waited for connection in connections):
            requests.full(tasks, asyncio.get_running_loop())
            await asyncio.sleep(0.001)
    assert [connection.resumed for connection in connections] == [[True], [True]]


async def test_what_waited_is_scored_if_nobody_else_came_meanwhile() -> None:
    connections = pause(Concurrency(1), [None], 1)
    assert await resumed(connections, 1) == connections
    assert connections[0].resumed == [False]


async def test_closed_connections_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "MAX_PAUSE_SECONDS", 0.01)
    requests = Concurrency(1)
    first, second = pause(requests, [None], 2)
    requests.forget(first)
    assert await resumed([first, second], 1) == [second]


async def test_a_connection_that_is_paused_after_all_others_closed_is_looked_at_once_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(concurrency, "LOOK_SECONDS", 0.1)
    looks = 0
    look = Concurrency._look

    def counted(self: Concurrency, *given: Any) -> None:
        nonlocal looks
        looks += 1
        look(self, *given)

    monkeypatch.setattr(Concurrency, "_look", counted)
    requests = Concurrency(1)
    for _ in range(5):
        (closed,) = pause(requests, [None], 1)
        requests.forget(closed)
    kept = pause(requests, [None], 1)
    await resumed(kept, 1)
    assert looks <= 3
