"""A decisions service that keeps what is reported, over real HTTP, and adapters that report to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from promoter.outbox import Outbox, TimelineService
from promoter.promotion import Adapters


class Receiver:
    """Answers with `statuses` in their order, then with 200; `events` are those that it kept."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.requests: list[tuple[str, str | None, dict[str, Any]]] = []
        self.events: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        event = await request.json()
        self.requests.append((request.raw_path, request.headers.get("Authorization"), event))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200 and event not in self.events:
            self.events.append(event)
        return web.json_response({"status": status, "detail": "as told"}, status=status)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


class Silent:
    """A service that never answers."""

    async def report(self, model: str, event: dict[str, Any]) -> None:
        raise AssertionError("nobody delivers in this test")


def with_outbox(adapters: Adapters, service: TimelineService | None = None) -> Adapters:
    """Return adapters that note events; nobody delivers them until the outbox runs."""
    return replace(adapters, outbox=Outbox(service or Silent(), adapters.telemetry))
