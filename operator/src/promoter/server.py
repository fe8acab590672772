"""The operator's HTTP endpoints: probes, metrics, and the registry's webhook."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from promoter.poll import Poller
from promoter.settings import Settings
from promoter.telemetry import Telemetry
from promoter.webhook import WINDOW_SECONDS, RejectedError, verify

_BODY_LIMIT = 65536


class Promotions(Protocol):
    """The part of the scheduler that the endpoints need."""

    def poll_now(self, model: str | None = None) -> None:
        """Poll the registry at once; for one registered model, or for all."""

    def hung(self, seconds: float) -> list[str]:
        """Return the promotions that make no progress."""


def create_app(
    settings: Settings, promotions: Promotions, poller: Poller, telemetry: Telemetry, ready: asyncio.Event
) -> web.Application:
    """Return the application."""
    app = web.Application(client_max_size=_BODY_LIMIT)

    async def healthz(_: web.Request) -> web.Response:
        if hung := promotions.hung(settings.hung_seconds):
            return web.json_response({"status": "hung", "promotions": hung}, status=503)
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        if not ready.is_set():
            return web.json_response({"status": "not watching yet"}, status=503)
        return web.json_response({"status": "ready"})

    async def metrics(request: web.Request) -> web.Response:
        telemetry.poll_age.set(poller.age)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(telemetry.registry), headers={"Content-Type": content_type})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    if settings.webhook_secret.get_secret_value():
        app.router.add_post("/webhook", _webhook(settings.webhook_secret.get_secret_value(), promotions))
    return app


def _webhook(secret: str, promotions: Promotions) -> Callable[[web.Request], Awaitable[web.Response]]:
    deliveries: dict[str, float] = {}

    async def webhook(request: web.Request) -> web.Response:
        now, delivery = time.time(), request.headers.get("X-MLflow-Delivery-Id", "")
        try:
            model = verify(request.headers, await request.read(), secret, now)
        except RejectedError as error:
            return web.json_response({"detail": f"webhook refused: {error}"}, status=401)
        for old in [key for key, at in deliveries.items() if now - at > 2 * WINDOW_SECONDS]:
            del deliveries[old]
        if delivery not in deliveries:
            deliveries[delivery] = now
            promotions.poll_now(model)
        return web.Response(status=204)

    return webhook
