"""The HTTP endpoints: a webhook triggers a poll once, probes and metrics answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from mlflow.webhooks.delivery import _generate_hmac_signature

from promoter.poll import Poller
from promoter.server import create_app
from promoter.settings import Settings
from promoter.telemetry import Telemetry

SECRET = "a-long-secret"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "credit-risk"}}).encode()


def signed(*, sent: int = 0, secret: str = SECRET) -> dict[str, str]:
    """Return the headers that MLflow itself would send."""
    return {
        "X-MLflow-Delivery-Id": "d-1",
        "X-MLflow-Timestamp": str(sent),
        "X-MLflow-Signature": _generate_hmac_signature(secret, "d-1", str(sent), BODY.decode()),
    }


class Promotions:
    """The scheduler, as far as the endpoints use it."""

    def __init__(self) -> None:
        self.polled: list[str | None] = []
        self.stuck: list[str] = []

    def poll_now(self, model: str | None = None) -> None:
        self.polled.append(model)

    def hung(self, seconds: float) -> list[str]:
        return self.stuck


class NeverPolled:
    async def desired_version(self, model: object) -> str | None:
        raise NotImplementedError

    async def version_exists(self, model: object, version: object) -> bool:
        raise NotImplementedError


@pytest.fixture
async def served() -> AsyncIterator[tuple[aiohttp.ClientSession, Promotions, asyncio.Event]]:
    promotions, ready, telemetry = Promotions(), asyncio.Event(), Telemetry()
    poller = Poller(NeverPolled(), 10, 60, time.monotonic)
    settings = Settings(webhook_secret=SECRET)
    runner = web.AppRunner(create_app(settings, promotions, poller, telemetry, ready))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session, promotions, ready
    await runner.cleanup()


Served = tuple[aiohttp.ClientSession, Promotions, asyncio.Event]


async def post(session: aiohttp.ClientSession, headers: dict[str, str], body: bytes = BODY) -> int:
    async with session.post("/webhook", data=body, headers=headers) as response:
        return response.status


async def test_a_delivery_triggers_one_poll_however_often_it_is_replayed(served: Served) -> None:
    session, promotions, _ = served
    headers = signed(sent=int(time.time()))
    assert [await post(session, headers) for _ in range(3)] == [204, 204, 204]
    assert promotions.polled == ["credit-risk"]


async def test_a_forged_or_huge_delivery_triggers_no_poll(served: Served) -> None:
    session, promotions, _ = served
    assert await post(session, signed(secret="guess", sent=int(time.time()))) == 401
    assert await post(session, signed(), b"x" * 100_000) == 413
    assert promotions.polled == []


async def test_liveness_is_not_readiness_and_reports_hung_loops(served: Served) -> None:
    session, promotions, ready = served

    async def status(path: str) -> int:
        async with session.get(path) as response:
            return response.status

    assert (await status("/healthz"), await status("/readyz")) == (200, 503)
    ready.set()
    assert await status("/readyz") == 200
    promotions.stuck = ["bank/loans"]
    assert await status("/healthz") == 503


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"), ("*/*", "text/plain")],
)
async def test_metrics_are_openmetrics_where_they_are_asked_for(served: Served, accept: str, kind: str) -> None:
    session, _, _ = served
    async with session.get("/metrics", headers={"Accept": accept}) as response:
        assert response.content_type == kind
        assert (await response.text()).endswith("# EOF\n") is (kind != "text/plain")
