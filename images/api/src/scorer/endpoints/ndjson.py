"""Applications a line each, answered a line each while the rest is still coming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from scorer.applications.tables import MOST_ROWS
from scorer.http.asgi import Receive, Send
from scorer.problems import Problem
from scorer.scoring.batch import Batch, BatchScorer
from scorer.scoring.single import model_of

NDJSON = "application/x-ndjson"
_PIECE_ROWS = 256
_encoder = msgspec.json.Encoder()
_Piece = list[bytes] | Problem | None


async def answer_lines(
    batches: BatchScorer,
    receive: Receive,
    send: Send,
    line_limit: int,
    limit: int,
    answers: Callable[[Batch, int], Sequence[Any]],
) -> None:
    """Stream the answer.

    The status is sent before the lines are read, so what ends the stream early (too many rows, a line that is too long)
    is its last line: an object with `problem` and without `row`.

    Raises:
        Problem: 503 when there is no model yet.
    """
    model_of(batches.scorer.slot)
    await send({
        "type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON.encode())],
    })  # fmt: skip
    # Reading goes on while the answer waits for its reader: a client that sends all before it reads would else wait
    # for us, and we for it. The body's limit bounds what gathers here.
    pieces: asyncio.Queue[_Piece] = asyncio.Queue()
    reading = asyncio.create_task(_gather(receive, line_limit, limit, pieces))
    try:
        row = 0
        while (piece := await pieces.get()) is not None:
            if isinstance(piece, list) and row + len(piece) > MOST_ROWS:
                piece = Problem(413, f"the batch has more than {MOST_ROWS} rows")
            if isinstance(piece, Problem):
                await _send_lines(send, [{"problem": msgspec.Raw(piece.body())}])
                break
            lines = piece
            batch = await batches.score("batch", lambda model, lines=lines: model.tables.from_lines(lines))  # type: ignore[misc]
            await _send_lines(send, answers(batch, row))
            row += len(piece)
    finally:
        reading.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _send_lines(send: Send, lines: Sequence[Any]) -> None:
    await send({"type": "http.response.body", "body": _encoder.encode_lines(lines), "more_body": True})


async def _gather(receive: Receive, line_limit: int, limit: int, pieces: asyncio.Queue[_Piece]) -> None:
    try:
        async for lines in _lines(receive, line_limit, limit):
            for start in range(0, len(lines), _PIECE_ROWS):
                pieces.put_nowait(lines[start : start + _PIECE_ROWS])
    except Problem as problem:
        pieces.put_nowait(problem)
    pieces.put_nowait(None)


async def _lines(receive: Receive, line_limit: int, limit: int) -> AsyncIterator[list[bytes]]:
    """Give the lines that are whole, as they come; blank ones are none."""
    rest, size, more = b"", 0, True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        received: bytes = message.get("body", b"")
        size += len(received)
        if size > limit:
            raise Problem(413, f"the body is larger than {limit} bytes")
        *lines, rest = (rest + received).split(b"\n")
        if not more:
            lines, rest = [*lines, rest], b""
        if len(rest) > line_limit or any(len(line) > line_limit for line in lines):
            raise Problem(413, f"a line is longer than {line_limit} bytes")
        if whole := [line for line in lines if line.strip()]:
            yield whole
