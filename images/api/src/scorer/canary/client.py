"""Sends applications to the canary over keep-alive connections, within the route's deadline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import msgspec

from scorer.answers import Score
from scorer.applications.json_bodies import BAD_JSON
from scorer.canary.breaker import SKIPPED, CircuitBreaker
from scorer.canary.route import CanaryRoute
from scorer.request_context import credentials

# Marks a request that a stable pod sent: the canary's pods answer it themselves, whatever their route says.
FORWARDED = "x-creditrisk-forwarded"
_CONNECTION_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_decode_score = msgspec.json.Decoder(Score).decode


@dataclass(frozen=True)
class CanaryAnswer:
    """How the canary answered.

    Attributes:
        outcome: The label in the metrics; "ok" for a score.
        seconds: The time it took.
        score: The score; None unless the outcome is ok.
        body: The same as the canary sent it.
    """

    outcome: str
    seconds: float
    score: Score | None = None
    body: bytes = b""


class CanaryClient:
    """Sends requests to the canary, unless it keeps failing."""

    def __init__(self, session: aiohttp.ClientSession, pod: str) -> None:
        """Take a session that keeps connections alive, and this pod's name."""
        self._session, self._pod = session, pod
        self.breaker = CircuitBreaker()

    async def score(self, canary: CanaryRoute, request_id: str, body: bytes, query: str = "") -> CanaryAnswer:
        """Return the canary's answer to a request with this body and query string."""
        started = time.perf_counter()
        if not self.breaker.allows(started):
            return CanaryAnswer(SKIPPED, 0.0)
        outcome, score, answer = "unreachable", None, b""
        try:
            async with asyncio.timeout(canary.deadline_milliseconds / 1000):
                status, answer = await self._post(canary, request_id, body, query)
            outcome = "ok" if status == 200 else "refused" if status < 500 else "error"
            if status == 200:
                score = _decode_score(answer)
                if score.model.version != canary.version:
                    outcome, score = "wrong-version", None
        except TimeoutError:
            outcome = "timeout"
        except BAD_JSON:
            outcome = "error"
        except aiohttp.ClientError:
            outcome = "unreachable"
        ended = time.perf_counter()
        self.breaker.record(ended, healthy=outcome in {"ok", "refused"})
        return CanaryAnswer(outcome, ended - started, score, answer)

    async def _post(self, canary: CanaryRoute, request_id: str, body: bytes, query: str) -> tuple[int, bytes]:
        own = {"content-type": "application/json", "x-request-id": request_id, FORWARDED: self._pod or "1"}
        headers = {**own, **credentials.get({})}
        url = f"{canary.url}/v1/score{'?' if query else ''}{query}"
        try:
            async with self._session.post(url, data=body, headers=headers) as response:
                return response.status, await response.read()
        except _CONNECTION_LOST:
            # The other end closed a kept connection in the meantime. Scoring twice does no harm.
            async with self._session.post(url, data=body, headers=headers) as response:
                return response.status, await response.read()
