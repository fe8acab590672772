"""Large bodies against the service as a process: what they may take of its memory, and of everybody's time."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from backports import zstd

from unit.scorer.fuzz.connections import obey
from unit.scorer.fuzz.oracle import Oracle
from unit.scorer.fuzz.tables import PARQUET
from unit.scorer.fuzz.watch import holdings
from unit.scorer.fuzz.wire import Answer, Connection, Request
from unit.scorer.service_process import Service, service

# The default limit of a body.
LARGEST = 8_388_608
BATCH, INVOCATIONS, INFER = "/v1/score/batch", "/invocations", "/v2/models/credit-risk/infer"
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress,
}  # fmt: skip
JSON, CSV = "application/json", "text/csv"


@pytest.fixture
async def running(model_folder: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with service(model_folder, tmp_path, log=tmp_path / "log") as started:
        yield started


async def post(running: Service, path: str, media_type: str, body: bytes, coding: str = "identity") -> Answer:
    port = urlsplit(running.url).port
    assert port
    connection, headers = await Connection.open(port), {"Content-Type": media_type, "Content-Encoding": coding}
    answer = await connection.ask(Request("POST", path, body, headers))
    connection.close()
    obey(answer)
    return answer


def filled(start: bytes, piece: bytes, end: bytes) -> bytes:
    """Return the largest body that repeats a piece between its start and its end."""
    return start + piece * ((LARGEST - len(start) - len(end)) // len(piece)) + end


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        (BATCH, JSON, filled(b"[", b"0,", b"0]")),
        (BATCH, JSON, filled(b"[", b"{},", b"{}]")),
        (BATCH, JSON, filled(b'{"a":[', b"[],", b"0]}")),
        (INVOCATIONS, JSON, filled(b'{"dataframe_split":{"columns":["a"],"data":[', b"[],", b"[]]}}")),
        (INVOCATIONS, CSV, filled(b"", b",\n", b"")),
        (INVOCATIONS, CSV, filled(b"", b"\r", b"")),
        (INFER, JSON, filled(b'{"inputs":[', b"{},", b"{}]}")),
    ],
)
async def test_a_body_of_millions_of_values_is_refused_before_it_is_parsed(
    running: Service, path: str, media_type: str, body: bytes
) -> None:
    before = holdings(running.process.pid)
    assert (await post(running, path, media_type, body)).status == 413
    # The body itself, in pieces and whole; parsed, each of these took 200 to 460 MB.
    assert holdings(running.process.pid).peak_megabytes < before.peak_megabytes + 50


@pytest.mark.parametrize("coding", ENCODERS)
async def test_bombs_take_no_more_memory_than_the_largest_bodies(running: Service, coding: str) -> None:
    size = 2**27
    bomb = ENCODERS[coding](bytes(size))
    assert len(bomb) < size // 1000
    before = holdings(running.process.pid)
    for path, media_type in [
        ("/v1/score", JSON), (BATCH, JSON), (BATCH, CSV), (BATCH, PARQUET), (INVOCATIONS, JSON), (INVOCATIONS, CSV),
        (INFER, JSON),
    ]:  # fmt: skip
        assert (await post(running, path, media_type, bomb, coding)).status == 413
    # The largest body, in pieces and whole.
    assert holdings(running.process.pid).peak_megabytes < before.peak_megabytes + 50


async def test_the_largest_batches_of_many_clients_are_refused_beyond_a_budget(
    running: Service, model_folder: Path
) -> None:
    rows = json.dumps([Oracle(model_folder).reference] * 10_000).encode()
    before = holdings(running.process.pid)
    started = time.monotonic()
    answers = await asyncio.gather(*(post(running, BATCH, JSON, rows.ljust(LARGEST)) for _ in range(40)))
    took = time.monotonic() - started
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 3
    assert took < 30
    # 40 of them would be 335 MB. How many are decoded at once, beside the budget for bodies, depends on the timing.
    assert holdings(running.process.pid).peak_megabytes < before.peak_megabytes + 200
    assert (await post(running, BATCH, JSON, rows)).status == 200
