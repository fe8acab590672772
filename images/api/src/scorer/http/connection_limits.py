"""Limits that the server enforces on connections before an application sees a request, and how it drains."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from uvicorn.server import ServerState

from scorer.http.concurrency import Concurrency
from scorer.metrics import LoadMetrics
from scorer.settings import Settings

SWEEP_SECONDS = 0.5


@dataclass(frozen=True)
class Limits:
    """Limits of one connection and of all together.

    Attributes:
        header_bytes: Of the request line and headers.
        request_seconds: For a request to arrive, and for a client to take any of its answer.
        requests: Running at the same time.
        connections: Open at the same time.
    """

    header_bytes: int
    request_seconds: float
    requests: int
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits in the settings."""
        return cls(
            settings.max_header_bytes, settings.max_arrival_seconds,
            settings.max_concurrent_requests, settings.max_connections,
        )  # fmt: skip


class Sweepable(Protocol):
    """A connection that is looked at now and then."""

    def check(self, now: float) -> bool:
        """End the connection if it takes too long; return whether a request's body is still arriving."""
        ...


class ConnectionLimits:
    """Applies the limits to the connections of one server, counts what is refused, and drains it before it stops."""

    def __init__(self, limits: Limits, metrics: LoadMetrics) -> None:
        """Take the limits, and where to count what was refused."""
        self.limits, self.metrics = limits, metrics
        self.concurrency = Concurrency(limits.requests)
        metrics.limit.set_function(lambda: self.concurrency.limit)
        self.draining = False

    async def keep_sweeping(self, state: ServerState) -> None:
        """Sweep twice a second until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.sweep(cast("Iterable[Sweepable]", tuple(state.connections)), loop.time())
            await asyncio.sleep(SWEEP_SECONDS)

    def sweep(self, connections: Iterable[Sweepable], now: float) -> None:
        """End each connection that takes too long, and count the requests whose bodies are still arriving."""
        self.concurrency.arriving = sum(connection.check(now) for connection in connections)

    async def drain(self, state: ServerState, seconds: float) -> None:
        """Close each connection after its next answer, until requests stop coming or the time is up."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + seconds
        answered = -1
        while (state.tasks or answered != state.total_requests) and asyncio.get_running_loop().time() < deadline:
            answered = state.total_requests
            await asyncio.sleep(min(1.0, seconds))
