"""A webhook hurries the poll only when MLflow sent it, not long ago, and once."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from mlflow.webhooks.delivery import _generate_hmac_signature

from promoter.poll import Poller
from promoter.server import create_app
from promoter.settings import Settings
from promoter.telemetry import Telemetry
from promoter.webhook import WINDOW_SECONDS, RejectedError, verify

SECRET, NOW = "a-long-secret", 1_700_000_000
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "credit-risk"}}).encode()


def signed(body: bytes = BODY, *, delivery: str = "d-1", sent: int = NOW, secret: str = SECRET) -> dict[str, str]:
    """Return the headers as MLflow itself makes them."""
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": str(sent),
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, str(sent), body.decode()),
    }


def test_what_mlflow_signs_is_believed_and_names_the_model() -> None:
    assert verify(signed(), BODY, SECRET, NOW + 5) == "credit-risk"


@pytest.mark.parametrize(
    ("headers", "body", "now", "reason"),
    [
        (signed(), BODY + b" ", NOW, "signature is wrong"),
        (signed(secret="another"), BODY, NOW, "signature is wrong"),
        (signed() | {"X-MLflow-Timestamp": str(NOW + 1)}, BODY, NOW, "signature is wrong"),
        (signed() | {"X-MLflow-Delivery-Id": "d-2"}, BODY, NOW, "signature is wrong"),
        (signed() | {"X-MLflow-Signature": "v1,\udce9"}, BODY, NOW, "signature is wrong"),
        (signed(), BODY, NOW + WINDOW_SECONDS + 1, "more than 300 s ago"),
        (signed(), BODY, NOW - WINDOW_SECONDS - 1, "more than 300 s ago"),
        (signed() | {"X-MLflow-Timestamp": "²"}, BODY, NOW, "malformed"),
        ({}, BODY, NOW, "missing"),
        (signed(b"[1]"), b"[1]", NOW, "no JSON object"),
        (signed(b"{"), b"{", NOW, "no JSON object"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_reason(headers: dict[str, str], body: bytes, now: float, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        verify(headers, body, SECRET, now)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(RejectedError):
        verify(signed(), BODY, SECRET, NOW)
    assert len(compared) == 1


class Loops:
    """A scheduler as far as the server sees it."""

    def __init__(self) -> None:
        self.hurried: list[str | None] = []
        self.stuck: list[str] = []

    def hurry(self, model: str | None) -> None:
        self.hurried.append(model)

    def hung(self, _: float) -> list[str]:
        return self.stuck


@pytest.fixture
async def served() -> AsyncIterator[tuple[aiohttp.ClientSession, Loops, asyncio.Event]]:
    loops, ready, telemetry = Loops(), asyncio.Event(), Telemetry()
    poller = Poller(None, 10, 60, time.monotonic)  # type: ignore[arg-type] # nobody polls here
    settings = Settings(webhook_secret=SECRET)
    runner = web.AppRunner(create_app(settings, loops, poller, telemetry, ready))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session, loops, ready
    await runner.cleanup()


Served = tuple[aiohttp.ClientSession, Loops, asyncio.Event]


async def post(session: aiohttp.ClientSession, headers: dict[str, str], body: bytes = BODY) -> int:
    async with session.post("/webhook", data=body, headers=headers) as response:
        return response.status


async def test_a_delivery_hurries_once_however_often_it_is_replayed(served: Served) -> None:
    session, loops, _ = served
    headers = signed(sent=int(time.time()))
    assert [await post(session, headers) for _ in range(3)] == [204, 204, 204]
    assert loops.hurried == ["credit-risk"]


async def test_a_forged_or_huge_delivery_hurries_nothing(served: Served) -> None:
    session, loops, _ = served
    assert await post(session, signed(secret="guess", sent=int(time.time()))) == 401
    assert await post(session, signed(), b"x" * 100_000) == 413
    assert loops.hurried == []


async def test_alive_is_not_ready_and_a_hung_loop_is_neither_hidden(served: Served) -> None:
    session, loops, ready = served

    async def status(path: str) -> int:
        async with session.get(path) as response:
            return response.status

    assert (await status("/healthz"), await status("/readyz")) == (200, 503)
    ready.set()
    assert await status("/readyz") == 200
    loops.stuck = ["bank/loans"]
    assert await status("/healthz") == 503
