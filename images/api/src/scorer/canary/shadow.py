"""Shadow mode: copies of requests go to the canary after their answers, and both models' answers are compared."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from scorer.answers import Score
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.client import CanaryClient
from scorer.canary.pairs import Pairs
from scorer.canary.route import CanaryRoute
from scorer.decision_log.origin import Origin
from scorer.request_context import credentials

QUEUE_LENGTH = 256
WORKERS = 4


@dataclass(frozen=True)
class ShadowCopy:
    """A request that the champion answered, to be scored by the challenger too.

    Attributes:
        canary: The route when the request was answered.
        origin: Where the request came from.
        body: The request's body.
        query: The request's query string.
        champion: The champion's answer.
        seconds: The time the champion took.
        credentials: The request's credential headers.
    """

    canary: CanaryRoute
    origin: Origin
    body: bytes
    query: str
    champion: Score
    seconds: float
    credentials: dict[str, str]


class ShadowQueue:
    """Holds copies until a worker sends them; drops them if it is full, so that shadowing never delays an answer."""

    def __init__(self, client: CanaryClient, metrics: ArmMetrics, pairs: Pairs) -> None:
        """Take the client that sends the copies, where to count the answers, and what compares them."""
        self._client, self._metrics, self._pairs = client, metrics, pairs
        self._copies: asyncio.Queue[ShadowCopy] = asyncio.Queue(QUEUE_LENGTH)

    def add(
        self, canary: CanaryRoute, origin: Origin, body: bytes, query: str, champion: Score, seconds: float
    ) -> None:
        """Queue a copy of the current request, or drop and count it."""
        copy = ShadowCopy(canary, origin, body, query, champion, seconds, credentials.get({}))
        try:
            self._copies.put_nowait(copy)
        except asyncio.QueueFull:
            self._metrics.dropped.labels(canary.version).inc()

    async def run_workers(self) -> None:
        """Send the copies, a few at a time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            copy = await self._copies.get()
            credentials.set(copy.credentials)
            await self._compare(copy)

    async def _compare(self, copy: ShadowCopy) -> None:
        metrics, champion, version = self._metrics, copy.champion, copy.canary.version
        answer = await self._client.score(copy.canary, copy.origin, copy.body, copy.query, shadow=True)
        if answer.score is None:
            metrics.failed(version, answer.outcome, answer.seconds)
            return
        metrics.answered("stable", champion.model.version, champion, copy.seconds)
        metrics.answered("canary", version, answer.score, answer.seconds)
        self._pairs.add_answered(version, copy.body, answer.score, champion)
