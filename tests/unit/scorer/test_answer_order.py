"""What clients do to a connection while requests on it are being answered: none of them loses its answer."""

from __future__ import annotations

import asyncio

import pytest

from scorer.http.limited_protocol import LimitedProtocol
from unit.scorer.test_connection_limits import GET, Serve, answer, ended, serve  # noqa: F401 - a fixture

BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("request_bytes", [GET, BODY])
async def test_a_client_that_closes_its_side_is_answered(serve: Serve, request_bytes: bytes) -> None:  # noqa: F811
    async with serve() as server:
        server.may_answer.clear()
        reader, writer = await server.connect()
        writer.write(request_bytes)
        writer.write_eof()
        while not server.uvicorn.server_state.tasks:
            await asyncio.sleep(0.01)
        server.may_answer.set()
        assert (await answer(reader))[0] == 200
        assert await ended(reader) == b""


@pytest.mark.parametrize("part", [b"GET", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nfew"])
async def test_a_client_that_closes_its_side_in_a_request_ends_the_connection(
    serve: Serve,  # noqa: F811
    part: bytes,
) -> None:
    async with serve(request_seconds=5) as server:
        reader, writer = await server.connect()
        writer.write(GET + part)
        writer.write_eof()
        assert (await answer(reader))[0] == 200
        assert await ended(reader) == b""
        assert not server.uvicorn.server_state.tasks


@pytest.mark.parametrize(
    "garbage", [b"\x00\x00\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZ"]
)
async def test_what_is_no_http_does_not_take_the_answers_of_requests_before_it(
    serve: Serve,  # noqa: F811
    garbage: bytes,
) -> None:
    async with serve() as server:
        server.may_answer.clear()
        reader, writer = await server.connect()
        writer.write(GET * 2 + garbage)
        while not server.uvicorn.server_state.tasks:
            await asyncio.sleep(0.01)
        server.may_answer.set()
        assert [(await answer(reader))[0] for _ in range(2)] == [200, 200]
        assert await ended(reader) == b""


async def test_an_application_whose_client_is_gone_answers_nobody_though_more_requests_wait(
    serve: Serve,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve() as server:
        server.may_answer.clear()
        _, writer = await server.connect()
        writer.write(GET * 3)
        while not server.uvicorn.server_state.tasks:
            await asyncio.sleep(0.01)
        (connection,) = server.uvicorn.server_state.connections
        assert isinstance(connection, LimitedProtocol)
        running = connection.running
        assert running
        assert running is not connection.cycle
        connection.transport.abort()
        async with asyncio.timeout(5):
            while server.uvicorn.server_state.connections:
                await asyncio.sleep(0.01)
            assert running.disconnected
            server.may_answer.set()
            while server.uvicorn.server_state.tasks:
                await asyncio.sleep(0.01)
        assert "Exception in ASGI application" not in caplog.text
