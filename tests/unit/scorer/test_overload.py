"""Refusals for overload, over real sockets: what they cost, and that they leave a connection in order.

`requests` may run at once; two requests that do not end fill the server in these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest
from prometheus_client import CollectorRegistry
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scorer.http import concurrency
from scorer.http.asgi import Message
from scorer.http.concurrency import Concurrency
from scorer.http.dispatcher import BodyBudget
from scorer.http.limited_protocol import LimitedProtocol
from scorer.metrics import LoadMetrics
from scorer.problems import Problem
from unit.scorer.test_connection_limits import GET, LIMITS, Serve, Server, answer, ended, serve  # noqa: F401 - a fixture

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000


@contextlib.asynccontextmanager
async def full(serve: Serve) -> AsyncIterator[Server]:  # noqa: F811
    async with serve(request_seconds=5) as server:
        server.may_answer.clear()
        for _ in range(2):
            _, writer = await server.connect()
            writer.write(GET)
        while len(server.uvicorn.server_state.tasks) < 2:
            await asyncio.sleep(0.01)
        yield server
        server.may_answer.set()


async def test_a_refused_connection_is_not_read_until_there_is_room(
    serve: Serve,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(concurrency, "MAX_PAUSE_SECONDS", 60)
    async with full(serve) as server:
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 503
        writer.write(GET)
        second = asyncio.create_task(answer(reader))
        # Another client is refused as quickly as before, and no second refusal is written meanwhile.
        other_reader, other_writer = await server.connect()
        other_writer.write(GET)
        assert (await answer(other_reader))[0] == 503
        assert not second.done()
        assert server.refused("overload") == 2
        server.may_answer.set()
        assert (await second)[0] == 200


async def test_a_refused_client_that_retries_at_once_is_refused_again_after_a_moment(serve: Serve) -> None:  # noqa: F811
    async with full(serve) as server:
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(GET)
            assert (await answer(reader))[0] == 503
        assert server.refused("overload") == 3


async def test_a_refused_connection_is_read_again_when_those_before_it_hung_up(serve: Serve) -> None:  # noqa: F811
    async with full(serve) as server:
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 503
        for connection in cast("tuple[HttpToolsProtocol, ...]", tuple(server.uvicorn.server_state.connections)):
            if not connection.cycle.response_complete:
                connection.transport.abort()
        # Nobody is answered when these end.
        server.may_answer.set()
        writer.write(GET)
        assert (await answer(reader))[0] == 200


async def test_the_body_of_a_refused_request_is_skipped(serve: Serve) -> None:  # noqa: F811
    async with full(serve) as server:
        reader, writer = await server.connect()
        writer.write(POST)
        assert (await answer(reader))[0] == 503
        server.may_answer.set()
        writer.write(POST + GET)
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]


async def test_refusals_keep_the_order_of_pipelined_requests(serve: Serve) -> None:  # noqa: F811
    async with serve(request_seconds=5) as server:
        server.may_answer.clear()
        reader, writer = await server.connect()
        writer.write(GET)
        _, other = await server.connect()
        other.write(GET)
        while len(server.uvicorn.server_state.tasks) < 2:
            await asyncio.sleep(0.01)
        writer.write(GET)
        while not server.refused("overload"):
            await asyncio.sleep(0.01)
        server.may_answer.set()
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 503]


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
async def test_a_client_that_asks_to_close_is_refused_and_closed(serve: Serve, head: bytes) -> None:  # noqa: F811
    async with full(serve) as server:
        reader, writer = await server.connect()
        writer.write(head)
        status, headers, _ = await answer(reader)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert await ended(reader) == b""


async def test_a_refusal_of_head_has_no_body(serve: Serve) -> None:  # noqa: F811
    async with full(serve) as server:
        reader, writer = await server.connect()
        writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert b" 503 " in head
        writer.write(GET)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 503")


async def test_an_answered_request_makes_room_before_the_loop_has_collected_its_task() -> None:
    """Its client may send the next one at once: as many clients as may run at once are never refused."""
    requests, loop = Concurrency(LIMITS.requests), asyncio.get_running_loop()
    tasks = {asyncio.create_task(asyncio.Event().wait()) for _ in range(LIMITS.requests)}
    assert requests.room(tasks) == 0
    for _ in tasks:
        requests.count_answered(loop)
        assert requests.room(tasks) > 0
    # By now the loop has collected them.
    await asyncio.sleep(0)
    assert requests.room(tasks) == 0
    for task in tasks:
        task.cancel()


async def test_a_request_that_waited_for_too_long_is_refused_though_there_is_room(serve: Serve) -> None:  # noqa: F811
    async with serve() as server:
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        (connection,) = server.uvicorn.server_state.connections
        assert isinstance(connection, LimitedProtocol)
        connection.waited = True
        writer.write(GET)
        assert (await answer(reader))[0] == 503
        connection.waited = False
        writer.write(GET)
        assert (await answer(reader))[0] == 200


async def test_the_limit_that_is_reported_is_the_one_that_counts(serve: Serve) -> None:  # noqa: F811
    async with serve(request_seconds=5) as server:
        assert server.registry.get_sample_value("scorer_concurrency_limit") == 2
        server.limits.concurrency.limit = 1
        server.may_answer.clear()
        _, first = await server.connect()
        first.write(GET)
        while not server.uvicorn.server_state.tasks:
            await asyncio.sleep(0.01)
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 503
        assert server.registry.get_sample_value("scorer_concurrency_limit") == 1
        server.may_answer.set()


async def test_bodies_beyond_the_budget_are_counted() -> None:
    registry = CollectorRegistry()
    budget = BodyBudget(10, LoadMetrics(registry).bodies.inc)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 8, "more_body": True}

    with budget.counting(receive) as counted:
        await counted()
        assert registry.get_sample_value("scorer_refused_total", {"reason": "bodies"}) == 0
        with pytest.raises(Problem) as refused:
            await counted()
    assert refused.value.status == 503
    assert registry.get_sample_value("scorer_refused_total", {"reason": "bodies"}) == 1
