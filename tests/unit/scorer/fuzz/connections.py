"""Hostile connections: pipelined, half-closed, dripped, reset, and with heads and framings that are wrong or rare.

Each attack returns how many requests it sent, and raises AssertionError for an answer that must not be.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from unit.scorer.fuzz.documents import Documents, Shot
from unit.scorer.fuzz.wire import Answer, BrokenAnswerError, Connection, Request

Attack = Callable[[int, Documents, random.Random], Awaitable[int]]
PATHS = ["/", "/docs", "/openapi.json", "/v1/model", "/v1/score", "/v1/score/batch", "/invocations", "/ping",
         "/version", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/credit-risk",
         "/v2/models/credit-risk/infer", "/v2/models/x/versions/%00", "//", "/%2e%2e/etc/passwd", "/docs/../../x",
         "/v1/score/", "/\u00e9", "/%ff%fe", "/v2/models/" + "x" * 3000, "*", "http://other/v1/score",
         "scoring:80"]  # fmt: skip
METHODS = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "M-SEARCH"]
TYPES = ["application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream",
         "application/vnd.apache.arrow.file", "application/vnd.apache.parquet", "application/octet-stream", "",
         "a/b;c=d", "\u00ff", "application/json\t", "application/json; charset=utf-16", "text/csv; charset=\u00ff",
         "application/x-ndjson;charset"]  # fmt: skip
HEADS = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n\r\n",
         b"GET\r\n\r\n", b"GET / HTTP/1.1\n\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
         b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
         b"GET / HTTP/1.1\r\nHost a\r\n\r\n", b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", b"GET \x7f\xff HTTP/1.1\r\n\r\n",
         b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000 + b"\r\n", b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
         b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n",
         b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AA==\r\n\r\n",
         b"\x00" * 100, b"GET / HTTP/1.1\r\nConnection: close, upgrade\r\nUpgrade: x\r\n\r\nrest"]  # fmt: skip


def obey(answer: Answer, *, head_only: bool = False) -> None:
    """Hold an answer to the rules that all answers keep."""
    detail = f"{answer.status} {answer.headers} {answer.body[:500]!r}"
    assert answer.status < 500 or (answer.status == 503 and "retry-after" in answer.headers), detail
    if answer.status >= 400 and not head_only:
        assert answer.headers["content-type"] == "application/problem+json", detail
        assert json.loads(answer.body)["status"] == answer.status, detail


def hold(shot: Shot, answer: Answer) -> None:
    """Hold an answer to the rules and to its request's own check; an announced 503 may come at any time."""
    obey(answer)
    if answer.status != 503:
        complaint = shot.check(answer)
        assert not complaint, f"{complaint}\n{shot.request.target} {shot.request.headers} {shot.request.body[:3000]!r}"


async def pipelined(port: int, documents: Documents, dice: random.Random) -> int:
    """Requests in one write, good and bad ones, and perhaps what is no request: the answers come in their order."""
    makers = [documents.single, documents.valid, documents.lines, documents.columns]
    shots = [dice.choice(makers)(dice) for _ in range(dice.randint(2, 12))]
    connection = await Connection.open(port)
    garbage = dice.choice(HEADS) if dice.random() < 0.2 else b""
    connection.send(b"".join([*(shot.request.encode() for shot in shots), garbage]))
    for shot in shots:
        hold(shot, await connection.answer())
    if garbage:
        connection.half_close()
        await tolerate(connection)
    connection.close()
    return len(shots)


async def half_closed(port: int, documents: Documents, dice: random.Random) -> int:
    """A whole request and FIN: answered all the same, then closed."""
    shot = documents.valid(dice)
    connection = await Connection.open(port)
    connection.send(shot.request.encode())
    connection.half_close()
    hold(shot, await connection.answer())
    connection.close()
    return 1


async def cut(port: int, documents: Documents, dice: random.Random) -> int:
    """A request that ends anywhere, by FIN or reset."""
    data = dice.choice([documents.single, documents.records, documents.lines])(dice).request.encode()
    connection = await Connection.open(port)
    connection.send(data[: dice.randrange(len(data))])
    await connection.writer.drain()
    if dice.random() < 0.5:
        await asyncio.sleep(0)
        connection.reset()
        return 1
    connection.half_close()
    await tolerate(connection)
    return 1


async def wrong_length(port: int, documents: Documents, dice: random.Random) -> int:
    """A Content-Length that is none, is not the body's, or is there twice or beside chunks: never a score."""
    request = documents.valid(dice).request
    length = len(request.body)
    lines = dice.choice([
        [f"Content-Length: {length - dice.randint(1, length)}"], ["Content-Length: -1"], ["Content-Length: 0x10"],
        [f"Content-Length: {length}, {length + 1}"], [f"Content-Length: {length}", f"Content-Length: {length + 1}"],
        [f"Content-Length: +{length}"], [f"Content-Length: {10**30}"], ["Content-Length: "], ["Content-Length: x"],
        [f"Content-Length: {length}", "Transfer-Encoding: chunked"], ["Transfer-Encoding: gzip, x"], [],
        ["Transfer-Encoding: chunked, identity"], [f"Content-Length: {length + 5}"],
    ])  # fmt: skip
    connection = await Connection.open(port)
    connection.send(request.head(*lines) + request.body)
    connection.half_close()
    for answer in await tolerate(connection):
        assert answer.status != 200, f"{lines} was scored: {answer.body!r}"
    return 1


async def chunked(port: int, documents: Documents, dice: random.Random) -> int:
    """Chunks of any size, with extensions and trailers: the body is what they hold together."""
    shot = dice.choice([documents.single, documents.records, documents.lines, documents.columns])(dice)
    sizes = [dice.randint(1, 40) for _ in range(dice.randint(0, 20))]
    extension = dice.choice(["", "", ";a=b", ';a="b"'])
    data = shot.request.chunked(sizes, extension, dice.choice(["", "X-Trailer: y\r\n"]))
    connection = await Connection.open(port)
    if dice.random() < 0.3:
        at = dice.randrange(len(shot.request.head("Transfer-Encoding: chunked")), len(data))
        connection.send(
            data[:at] + dice.choice([b"\r\n", b"Z", b"FFFFFFFFFFFFFFFFF\r\n", b"-1\r\n", b""]) + data[at + 1 :]
        )
        connection.half_close()
        await tolerate(connection)
        return 1
    connection.send(data)
    hold(shot, await connection.answer())
    connection.close()
    return 1


async def dripped(port: int, documents: Documents, dice: random.Random) -> int:
    """A request in small pieces over half a second: answered, for it keeps within the time limit."""
    shot = dice.choice([documents.single, documents.lines])(dice)
    data = shot.request.encode()
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randint(1, 10)))
    connection = await Connection.open(port)
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        connection.send(data[start:end])
        await asyncio.sleep(0.5 / (len(cuts) + 1) * dice.random())
    hold(shot, await connection.answer())
    connection.close()
    return 1


async def stalled(port: int, documents: Documents, dice: random.Random) -> int:
    """A request that stops coming: a 408, or a close where nothing was asked."""
    data = documents.valid(dice).request.encode()
    connection = await Connection.open(port)
    connection.send(data[: dice.randrange(len(data))])
    assert {answer.status for answer in await tolerate(connection)} <= {408}
    return 1


async def unread(port: int, documents: Documents, dice: random.Random) -> int:
    """A client that asks for much, reads little, and goes."""
    shots = [dice.choice([documents.lines, documents.records])(dice) for _ in range(30)]
    connection = await Connection.open(port)
    connection.send(b"".join(shot.request.encode() for shot in shots))
    try:
        await asyncio.wait_for(connection.answer(), 5)
    finally:
        connection.reset()
    return len(shots)


async def strange_head(port: int, _: Documents, dice: random.Random) -> int:
    """Bytes that are no HTTP, or HTTP that few speak."""
    head = dice.choice(HEADS) if dice.random() < 0.7 else dice.randbytes(dice.randint(1, 300))
    connection = await Connection.open(port)
    connection.send(head)
    connection.half_close()
    await tolerate(connection)
    return 1


async def strange_request(port: int, documents: Documents, dice: random.Random) -> int:
    """Every method, path and type, with a body that may belong to another one."""
    bodies = [b"", dice.randbytes(dice.randint(1, 400)), documents.single(dice).request.body]
    headers = {"Content-Type": dice.choice(TYPES)}
    if dice.random() < 0.2:
        headers["X-Request-Id"] = dice.choice(["", "\u00ff" * 200, "a" * 128, '"\t'])
    if dice.random() < 0.2:
        headers["Content-Encoding"] = dice.choice(
            ["gzip", "deflate", "zstd", "br", "", ",", "identity", "gzip\t,", "\u00ff"]
        )
    if dice.random() < 0.1:
        headers["Expect"] = dice.choice(["100-continue", "200-ok"])
    target = dice.choice(PATHS) + dice.choice(["", "", "?", "?reasons=4", "?reasons=-1", "?%", "?a=b&" * 50, "#x"])
    request = Request(dice.choice(METHODS), target, dice.choice(bodies), headers)
    connection = await Connection.open(port)
    connection.send(request.encode(*dice.choice([[], ["Connection: close"], ["Connection: , ,"], ["Cookie: a"] * 20])))
    connection.half_close()
    if request.method == "HEAD":
        obey(await connection.answer(head_only=True), head_only=True)
        connection.close()
    else:
        await tolerate(connection)
    return 1


async def tolerate(connection: Connection) -> list[Answer]:
    """Return the answers until the service closes; each keeps the rules, and each is whole."""
    found = []
    try:
        while True:
            answer = await connection.answer()
            obey(answer)
            found.append(answer)
    except BrokenAnswerError as error:
        # An end between two answers is one; bytes that stop in the middle of an answer are not.
        if not str(error).endswith(" b''"):
            raise
    except ConnectionError:
        pass
    finally:
        connection.close()
    return found


ATTACKS: list[tuple[Attack, int]] = [
    (pipelined, 10), (half_closed, 4), (cut, 8), (wrong_length, 8), (chunked, 10), (dripped, 3), (stalled, 1),
    (unread, 1), (strange_head, 8), (strange_request, 25),
]  # fmt: skip
