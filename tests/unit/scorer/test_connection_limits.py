"""The server's limits over real sockets: size, time and number; and how it drains."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import Receive, Scope, Send

from scorer.http import connection_limits, limited_protocol
from scorer.http.connection_limits import ConnectionLimits, Limits
from scorer.metrics import LoadMetrics

LIMITS = Limits(header_bytes=2048, request_seconds=0.4, requests=2, connections=20)
# For tests that wait for the limit to expire; the others get more time, because the machine may be busy.
SOON = 0.1
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Server:
    """A limited server whose application reads the body and answers once it may."""

    def __init__(self, limits: Limits) -> None:
        self.registry = CollectorRegistry()
        self.limits = ConnectionLimits(limits, LoadMetrics(self.registry))
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer = b"ok"
        self.disconnected = 0
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            port=0,
            http=limited_protocol.limited_protocol(self.limits),
            ws="none",
            lifespan="off",
            log_config=None,
        )
        self.uvicorn = uvicorn.Server(config)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            more = message["more_body"]
        await self.may_answer.wait()
        headers = [(b"content-length", str(len(self.answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        return await asyncio.open_connection("127.0.0.1", port)

    def refused(self, reason: str) -> float | None:
        return self.registry.get_sample_value("scorer_refused_total", {"reason": reason})


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    monkeypatch.setattr(connection_limits, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(limited_protocol, "LINGER_SECONDS", 0.3)

    @contextlib.asynccontextmanager
    async def running(**changed: float) -> AsyncIterator[Server]:
        server = Server(replace(LIMITS, **changed))  # type: ignore[arg-type]
        serving = asyncio.create_task(server.uvicorn._serve())
        while not server.uvicorn.started:
            await asyncio.sleep(0.01)
        sweeping = asyncio.create_task(server.limits.keep_sweeping(server.uvicorn.server_state))
        yield server
        server.uvicorn.should_exit = True
        server.uvicorn.force_exit = True
        await serving
        sweeping.cancel()

    return running


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return the next answer's status, headers and body."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the server closes."""
    return await asyncio.wait_for(reader.read(), 5)


async def test_a_connection_serves_many_requests(serve: Serve) -> None:
    async with serve() as server:
        reader, writer = await server.connect()
        for _ in range(3):
            writer.write(GET)
            assert (await answer(reader))[0] == 200
        writer.write(GET * 2)
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("pieces", [1, 40])
async def test_large_headers_are_refused_whether_they_arrive_at_once_or_in_pieces(serve: Serve, pieces: int) -> None:
    async with serve() as server:
        reader, writer = await server.connect()
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 4000
        for start in range(0, len(head), len(head) // pieces):
            writer.write(head[start : start + len(head) // pieces])
            await asyncio.sleep(0)
        if pieces == 1:
            writer.write(b"\r\n\r\n")
        status, headers, body = await answer(reader)
        assert (status, headers["connection"]) == (431, "close")
        assert "2048 bytes" in json.loads(body)["detail"]
        assert server.refused("headers") == 1


async def test_a_large_body_does_not_count_as_headers(serve: Serve) -> None:
    async with serve() as server:
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
            assert (await answer(reader))[0] == 200


@pytest.mark.parametrize("start", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n"])
async def test_slow_headers_get_a_408(serve: Serve, start: bytes) -> None:
    async with serve(request_seconds=SOON) as server:
        reader, writer = await server.connect()
        writer.write(start)
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"], headers["content-type"]) == (408, "close", "application/problem+json")
        assert await ended(reader) == b""
        assert server.refused("slow") == 1


async def test_headers_that_trickle_in_get_a_408_too(serve: Serve) -> None:
    async with serve(request_seconds=SOON) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\n")
        reading = asyncio.create_task(answer(reader))
        while not reading.done():
            writer.write(b"a: b\r\n")
            await asyncio.sleep(0.05)
        assert (await reading)[0] == 408


async def test_a_second_request_on_a_connection_has_the_same_time_limit(serve: Serve) -> None:
    async with serve() as server:
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        await asyncio.sleep(LIMITS.request_seconds + 0.1)
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        writer.write(b"GET")
        assert (await answer(reader))[0] == 408


async def test_a_slow_body_gets_a_408_and_releases_the_application(serve: Serve) -> None:
    async with serve(request_seconds=SOON) as server:
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nfew")
        assert (await answer(reader))[0] == 408
        assert await ended(reader) == b""
        async with asyncio.timeout(5):
            while server.uvicorn.server_state.tasks:
                await asyncio.sleep(0.01)
        assert server.disconnected == 1


async def test_a_body_that_keeps_arriving_may_take_longer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_protocol, "MIN_BODY_RATE", 1000)
    async with serve() as server:
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n")
        for _ in range(10):
            writer.write(b"x" * 200)
            await asyncio.sleep(0.1)
        assert (await answer(reader))[0] == 200


async def test_a_silent_connection_is_closed_without_an_answer(serve: Serve) -> None:
    async with serve(request_seconds=SOON) as server:
        reader, _ = await server.connect()
        assert await ended(reader) == b""


async def test_load_above_the_limit_is_shed_at_once_and_the_connection_stays_open(serve: Serve) -> None:
    async with serve() as server:
        server.may_answer.clear()
        busy = [await server.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(GET)
        async with asyncio.timeout(5):
            while len(server.uvicorn.server_state.tasks) < 2:
                await asyncio.sleep(0.01)
        reader, writer = await server.connect()
        writer.write(GET)
        status, headers, body = await answer(reader)
        assert (status, headers["retry-after"], json.loads(body)["status"]) == (503, "1", 503)
        server.may_answer.set()
        assert [(await answer(reader))[0] for reader, _ in busy] == [200, 200]
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        assert server.refused("overload") == 1


async def test_slow_bodies_do_not_count_as_load(serve: Serve) -> None:
    async with serve(request_seconds=60) as server:
        slow = []
        for number in range(4):
            # A writer that nothing refers to closes its connection.
            slow.append(await server.connect())
            slow[-1][1].write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nfew")
            async with asyncio.timeout(5):
                while server.limits.concurrency.arriving <= number:
                    await asyncio.sleep(0.01)
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200


async def test_the_number_of_connections_is_limited(serve: Serve) -> None:
    async with serve(connections=2) as server:
        kept = [await server.connect() for _ in range(2)]
        reader, _ = await server.connect()
        assert (await answer(reader))[0] == 503
        assert server.refused("connections") == 1
        assert len(kept) == 2


async def test_a_client_that_never_reads_is_disconnected(serve: Serve) -> None:
    async with serve(request_seconds=SOON) as server:
        server.answer = b"x" * 50_000_000
        _, writer = await server.connect()
        writer.write(GET)
        async with asyncio.timeout(5):
            while not server.refused("unread-answer") or server.uvicorn.server_state.connections:
                await asyncio.sleep(0.01)
        assert server.refused("unread-answer") == 1


async def test_invalid_http_gets_a_problem(serve: Serve) -> None:
    async with serve() as server:
        reader, writer = await server.connect()
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        status, headers, _ = await answer(reader)
        assert (status, headers["content-type"]) == (400, "application/problem+json")


async def test_a_draining_server_closes_each_connection_after_its_answer(serve: Serve) -> None:
    async with serve() as server:
        used, idle = await server.connect(), await server.connect()
        for reader, writer in (used, idle):
            writer.write(GET)
            assert "connection" not in (await answer(reader))[1]
        draining = asyncio.create_task(server.limits.drain(server.uvicorn.server_state, 2))
        await asyncio.sleep(0)
        used[1].write(GET)
        assert (await answer(used[0]))[1]["connection"] == "close"
        reader, writer = await server.connect()
        writer.write(GET)
        assert (await answer(reader))[0] == 200
        started = asyncio.get_running_loop().time()
        await draining
        assert 0.5 < asyncio.get_running_loop().time() - started < 2.5


async def test_all_reasons_are_reported_from_the_start(serve: Serve) -> None:
    async with serve() as server:
        assert generate_latest(server.registry).count(b"scorer_refused_total{") == 6
