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
from scorer.decision_log.origin import Origin, Role
from scorer.request_context import credentials

# Marks a request that a stable pod sent: the canary's pods answer it themselves, whatever their route says.
FORWARDED = "x-creditrisk-forwarded"
# What its value ends with if nobody waits for the answer but the stable pod, which compares it with its own.
SHADOW = ";shadow"
APPLICANT = "x-applicant-id"
_CONNECTION_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_decode_score = msgspec.json.Decoder(Score).decode


def role_of(mark: bytes | None) -> Role:
    """Return as whose answer a request is scored here; `mark` is a stable pod's, None for a client's request."""
    if mark is None:
        return "champion"
    return "shadow" if mark.endswith(SHADOW.encode()) else "canary"


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

    async def score(
        self, canary: CanaryRoute, origin: Origin, body: bytes, query: str = "", *, shadow: bool = False
    ) -> CanaryAnswer:
        """Return the canary's answer to a request with this body and query string, or to a copy of one."""
        started = time.perf_counter()
        if not self.breaker.allows(started):
            return CanaryAnswer(SKIPPED, 0.0)
        outcome, score, answer = "unreachable", None, b""
        try:
            async with asyncio.timeout(canary.deadline_milliseconds / 1000):
                status, answer = await self._post(canary, self._headers(origin, shadow=shadow), body, query)
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

    def _headers(self, origin: Origin, *, shadow: bool) -> dict[str, str]:
        """Return what the canary must know of a request beside its body: all that its decision's record needs."""
        mark = (self._pod or "1") + (SHADOW if shadow else "")
        own = {"content-type": "application/json", "x-request-id": origin.request_id, FORWARDED: mark}
        if origin.applicant_id:
            own[APPLICANT] = origin.applicant_id
        return {**own, **credentials.get({})}

    async def _post(self, canary: CanaryRoute, headers: dict[str, str], body: bytes, query: str) -> tuple[int, bytes]:
        url = f"{canary.url}/v1/score{'?' if query else ''}{query}"
        try:
            async with self._session.post(url, data=body, headers=headers) as response:
                return response.status, await response.read()
        except _CONNECTION_LOST:
            # The other end closed a kept connection in the meantime. Scoring twice does no harm.
            async with self._session.post(url, data=body, headers=headers) as response:
                return response.status, await response.read()
