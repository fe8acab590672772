"""Answers to requests whose bodies are still arriving, over real sockets: read in full, and what follows is right."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from scorer.http.lingering import LINGER_SECONDS
from unit.scorer.access_keys import write_keys
from unit.scorer.fuzz.wire import Answer, Connection, Request
from unit.scorer.service_process import Service, service

# More than the kernel and the service keep: the client is still writing when its answer comes.
LARGE = 12 * 2**20
KEY = {"X-API-Key": "k-lender"}
JSON = {**KEY, "Content-Type": "application/json"}
BATCH, INFER = "/v1/score/batch", "/v2/models/credit-risk/infer"


@dataclass(frozen=True)
class Refused:
    """A request that is refused before its body is complete."""

    name: str
    path: str
    status: int
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    start: bytes = b"["

    def request(self) -> Request:
        return Request("POST", self.path, b"", dict(self.headers))


CODED = {"Content-Encoding": "gzip"}
REFUSED = [
    Refused("too large", "/v1/score", 413), Refused("too large", BATCH, 413), Refused("too large", "/invocations", 413),
    Refused("too large", INFER, 413), Refused("bomb", "/v1/score", 413, JSON | CODED, gzip.compress(bytes(10**6))),
    Refused("bomb", BATCH, 413, JSON | CODED, gzip.compress(bytes(2**24))),
    Refused("no gzip", "/v1/score", 400, JSON | CODED), Refused("no gzip", BATCH, 400, JSON | CODED),
    Refused("other coding", "/v1/score", 415, JSON | {"Content-Encoding": "br"}),
    Refused("other coding", INFER, 415, JSON | {"Content-Encoding": "br"}),
    Refused("other type", "/v1/score", 415, {**KEY, "Content-Type": "text/xml"}),
    Refused("other type", BATCH, 415, {**KEY, "Content-Type": "text/xml"}),
    Refused("charset", "/invocations", 415, {**KEY, "Content-Type": "text/csv; charset=latin1"}),
    Refused("no key", "/v1/score", 401, {"Content-Type": "application/json"}),
    Refused("no key", BATCH, 401, {"Content-Type": "application/json"}),
    Refused("bad query", "/v1/score?reasons=x", 422), Refused("no such path", "/nowhere", 404),
    Refused("no such method", "/v1/model", 405), Refused("no such model", "/v2/models/x/infer", 404),
]  # fmt: skip
# Those that are refused whatever their bodies are.
UNREAD = [case for case in REFUSED if case.status not in {400, 413}]
IDS = [f"{case.name} {case.path}" for case in REFUSED]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    keys = write_keys(tmp_path_factory.mktemp("keys"))
    work = tmp_path_factory.mktemp("service")
    async with service(model_folder, work, access_mode="apiKeys", access_dir=keys, max_arrival_seconds=4) as found:
        yield found


@pytest.fixture
def port(running: Service) -> int:
    found = urlsplit(running.url).port
    assert found
    return found


@pytest.fixture
def scored(model_folder: Path) -> Request:
    contract = json.loads((model_folder / "contract.json").read_bytes())
    return Request("POST", "/v1/score", json.dumps(contract["reference_applicant"]).encode(), JSON)


def check(case: Refused, answer: Answer) -> None:
    assert answer.status == case.status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == case.status


def body_of(case: Refused, size: int) -> bytes:
    return case.start + b" " * (size - len(case.start))


@pytest.mark.parametrize("case", REFUSED, ids=IDS)
async def test_the_answer_comes_at_once_and_the_connection_goes_on_after_the_body(
    port: int, case: Refused, scored: Request
) -> None:
    connection, body = await Connection.open(port), body_of(case, LARGE)
    connection.send(case.request().head(f"Content-Length: {len(body)}") + body[:-500_000])
    check(case, await connection.answer())
    connection.send(body[-500_000:])
    # What was left of the body is no request, and the next one is answered.
    assert (await connection.ask(scored)).status == 200
    connection.close()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("case", REFUSED, ids=IDS)
async def test_a_client_that_writes_everything_before_it_reads_gets_its_answer_before_the_connection_closes(
    port: int, case: Refused, chunked: bool
) -> None:
    """As most clients and proxies do; a connection closed too early is reset, and its answer lost."""
    connection = await Connection.open(port)
    request = case.request()
    request.body = body_of(case, LARGE)
    request.headers["Connection"] = "close"
    connection.send(request.chunked([2**20] * 20) if chunked else request.encode())
    await connection.writer.drain()
    answer = await connection.answer()
    check(case, answer)
    assert answer.headers["connection"] == "close"
    assert await connection.rest() == b""
    connection.close()


@pytest.mark.parametrize("case", UNREAD, ids=[f"{case.name} {case.path}" for case in UNREAD])
async def test_a_client_that_waits_to_be_told_to_send_its_body_is_not_and_the_connection_closes(
    port: int, case: Refused
) -> None:
    connection = await Connection.open(port)
    connection.send(case.request().head(f"Content-Length: {LARGE}", "Expect: 100-continue"))
    head = await connection._reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % case.status)
    assert b"\r\nconnection: close\r\n" in head
    rest = await connection.rest()
    assert json.loads(rest)["status"] == case.status
    connection.close()


async def test_a_client_that_is_told_to_send_its_body_keeps_its_connection(port: int, scored: Request) -> None:
    connection = await Connection.open(port)
    for _ in range(2):
        connection.send(scored.head(f"Content-Length: {len(scored.body)}", "Expect: 100-continue"))
        assert (await connection._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        connection.send(scored.body)
        assert (await connection.answer()).status == 200
    connection.close()


@pytest.mark.parametrize("closing", [True, False])
async def test_a_client_that_sends_no_more_after_its_answer_is_not_waited_for(port: int, closing: bool) -> None:
    connection = await Connection.open(port)
    lines = ["Connection: close"] if closing else []
    connection.send(REFUSED[0].request().head(f"Content-Length: {LARGE}", *lines) + b" " * 100_000)
    started = time.monotonic()
    check(REFUSED[0], await connection.answer())
    assert await connection.rest() == b""
    # Without Connection: close it is held to the time limit of requests.
    assert time.monotonic() - started < (LINGER_SECONDS + 20 if closing else 30)
    connection.close()


async def test_a_stream_that_ends_early_is_read_in_full(port: int) -> None:
    connection = await Connection.open(port)
    headers = {**KEY, "Content-Type": "application/x-ndjson", "Connection": "close"}
    connection.send(Request("POST", BATCH, b"x" * LARGE, headers).encode())
    await connection.writer.drain()
    answer = await connection.answer()
    assert json.loads(answer.body.splitlines()[-1])["problem"]["status"] == 413
    connection.close()


async def test_lines_are_answered_while_the_rest_of_a_coded_body_is_arriving(port: int, scored: Request) -> None:
    encoder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    connection = await Connection.open(port)
    request = Request("POST", BATCH, b"", {**KEY, **CODED, "Content-Type": "application/x-ndjson"})
    connection.send(request.head("Transfer-Encoding: chunked"))

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    for row in range(3):
        coded = encoder.compress(scored.body + b"\n") + encoder.flush(zlib.Z_SYNC_FLUSH)
        connection.send(chunk(coded))
        if row == 0:
            await connection._reader.readuntil(b"\r\n\r\n")
        size = int(await asyncio.wait_for(connection._reader.readuntil(b"\r\n"), 60), 16)
        answered: dict[str, Any] = json.loads(await connection._reader.readexactly(size))
        assert answered["row"] == row
        await connection._reader.readexactly(2)
    connection.send(chunk(encoder.flush()) + b"0\r\n\r\n")
    assert await connection._reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
    connection.close()


async def test_a_body_beyond_the_budget_of_all_is_refused_while_it_arrives(
    model_folder: Path, tmp_path: Path, scored: Request
) -> None:
    async with service(model_folder, tmp_path, max_batch_bytes=4096) as running:
        port = int(running.url.rpartition(":")[2])

        async def begin(sent: int) -> Connection:
            connection = await Connection.open(port)
            head = Request("POST", BATCH, b"", {"Content-Type": "application/json"}).head("Content-Length: 4000")
            connection.send(head + b" " * sent)
            await connection.writer.drain()
            return connection

        # Four times the largest body, less some bytes.
        others = [await begin(4000 - 1) for _ in range(4)]
        refused = await begin(2000)
        answer = await refused.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        refused.send(b" " * 2000)
        assert (await refused.ask(scored)).status == 200
        # Those that wait are not affected.
        for connection in others:
            connection.send(b"]")
            assert (await connection.answer()).status == 400
            connection.close()
        refused.close()
