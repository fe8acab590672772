"""Newline-delimited JSON: applications, one per line, answered line by line while the rest is still arriving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from scorer.applications.rows import MAX_ROWS
from scorer.http.asgi import Receive, Send, encoded_headers
from scorer.http.media_types import NDJSON
from scorer.problems import Problem

_CHUNK_ROWS = 256
_encoder = msgspec.json.Encoder()
# Some lines; or why the stream ends early; or None at its end.
_Chunk = list[bytes] | Problem | None
# Returns an answer for each line; the number is that of the first line's row.
AnswerLines = Callable[[list[bytes], int], Awaitable[Sequence[Any]]]


@dataclass(frozen=True)
class StreamLimits:
    """Limits of a request, in bytes.

    Attributes:
        line: Of one line.
        body: Of the whole body.
    """

    line: int
    body: int


async def stream_answers(
    receive: Receive,
    send: Send,
    answer_lines: AnswerLines,
    limits: StreamLimits,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Answer each line of a request's body; `headers` are further ones of the answer.

    The status is sent before any line is read. So whatever ends the stream early (too many rows, a line that is too
    long, decisions that must be logged and cannot be) is its last line: an object with `problem` and without `row`.
    """
    await send({
        "type": "http.response.start", "status": 200,
        "headers": [(b"content-type", NDJSON.encode()), *encoded_headers(headers)],
    })  # fmt: skip
    # Reading continues while the answer waits for its reader: a client that sends everything before it reads would
    # otherwise wait for us, and we for it. The body's limit bounds what accumulates here.
    chunks: asyncio.Queue[_Chunk] = asyncio.Queue()
    reading = asyncio.create_task(_read_chunks(receive, limits, chunks))
    try:
        row = 0
        while (chunk := await chunks.get()) is not None:
            if isinstance(chunk, list) and row + len(chunk) > MAX_ROWS:
                chunk = Problem(413, f"the batch has more than {MAX_ROWS} rows")
            try:
                answers = chunk if isinstance(chunk, Problem) else await answer_lines(chunk, row)
            except Problem as problem:
                answers = problem
            if isinstance(answers, Problem):
                await _send_lines(send, [{"problem": msgspec.Raw(answers.body())}])
                break
            await _send_lines(send, answers)
            row += len(answers)
    finally:
        reading.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _send_lines(send: Send, lines: Sequence[Any]) -> None:
    await send({"type": "http.response.body", "body": _encoder.encode_lines(lines), "more_body": True})


async def _read_chunks(receive: Receive, limits: StreamLimits, chunks: asyncio.Queue[_Chunk]) -> None:
    try:
        async for lines in _lines(receive, limits):
            for start in range(0, len(lines), _CHUNK_ROWS):
                chunks.put_nowait(lines[start : start + _CHUNK_ROWS])
    except Problem as problem:
        chunks.put_nowait(problem)
    chunks.put_nowait(None)


async def _lines(receive: Receive, limits: StreamLimits) -> AsyncIterator[list[bytes]]:
    """Yield complete lines as they arrive, without blank ones."""
    rest, size, more = b"", 0, True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        received: bytes = message.get("body", b"")
        size += len(received)
        if size > limits.body:
            raise Problem(413, f"the body is larger than {limits.body} bytes")
        *lines, rest = (rest + received).split(b"\n")
        if not more:
            lines, rest = [*lines, rest], b""
        if len(rest) > limits.line or any(len(line) > limits.line for line in lines):
            raise Problem(413, f"a line is longer than {limits.line} bytes")
        if complete := [line for line in lines if line.strip()]:
            yield complete
