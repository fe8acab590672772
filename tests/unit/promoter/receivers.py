"""Receivers of notifications on loopback, and notifications to send them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from promoter.api.status import AnalysisResult, MetricResult, Notification, NotificationsState, State, Verdict

SHIFT = "decision shift 0.156 (0.100 to 0.222) > 0.05 over 500 pairs (80 from approve to decline, 2 from decline to approve)"  # noqa: E501
JUDGMENT = AnalysisResult(verdict=Verdict.FAILED, at=1_767_225_600.0, results=(
    MetricResult(name="DecisionShift", verdict=Verdict.FAILED, value=0.156, lower=0.1, upper=0.222, limit=0.05,
                 samples=500, message=SHIFT),
    MetricResult(name="Query", verdict=Verdict.ERROR, limit=1.0, message="Prometheus answered 503 <html>"),
))  # fmt: skip
ROLLED_BACK = Notification(
    id="bank/loans/u-1/1767225600000-3", kind="RolledBack", at=1_767_225_600.0, model="credit-risk", version="8",
    stable_version="7", reason="AnalysisFailed", message=SHIFT, judgment=JUDGMENT, to=("slack", "cloudEvents", "email"),
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a receiver was sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Inbox:
    """Answers as told (status and headers; None: not at all), then with 200; `taken` is what it answered so."""

    answers: list[tuple[int, dict[str, str]] | None] = field(default_factory=list)
    requests: list[Told] = field(default_factory=list)
    taken: list[Told] = field(default_factory=list)
    detail: str = "as told"
    url: str = ""
    port: int = 0

    async def take(self, request: web.Request) -> web.Response:
        told = Told(request.raw_path, dict(request.headers), await request.read())
        self.requests.append(told)
        answer = self.answers.pop(0) if self.answers else (200, {})
        if answer is None:
            await asyncio.Event().wait()
        assert answer
        status, headers = answer
        if status == 200:
            self.taken.append(told)
        return web.Response(status=status, headers=headers, text=self.detail)


@asynccontextmanager
async def inbox(context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Inbox]:
    """Run an HTTP server, with TLS if there is a context for it."""
    found, app = Inbox(), web.Application()
    app.router.add_post("/{path:.*}", found.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    found.port = runner.addresses[0][1]
    found.url = f"http{'s' if context else ''}://127.0.0.1:{found.port}"
    yield found
    await runner.cleanup()


def notification(number: int, *, to: tuple[str, ...] = ("slack",), at: float = 1_767_225_600.0) -> Notification:
    """Return the started rollout of the version with a number."""
    return Notification(id=f"bank/loans/u-1/{number}", kind="RolloutStarted", at=at, model="credit-risk",
                        version=str(number), stable_version="1", to=to)  # fmt: skip


def stored(*entries: Notification) -> State:
    """Return a stored state with these notifications."""
    return State(notifications=NotificationsState(pending=entries, number=len(entries)))
