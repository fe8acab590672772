"""The stable pod as a router: it chooses the arm for each applicant, and falls back to its own answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from scorer.answers import Score
from scorer.applications.json_bodies import BAD_JSON
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.client import CanaryAnswer, CanaryClient
from scorer.canary.pairs import Pairs
from scorer.canary.route import CanaryRoute, Route
from scorer.canary.shadow import ShadowQueue
from scorer.decision_log.origin import Origin
from scorer.problems import Problem

# Scores a request in this pod.
Champion = Callable[[Origin], Awaitable[Score]]


class _Applicant(msgspec.Struct):
    applicant_id: str | None = None


_decode_applicant = msgspec.json.Decoder(_Applicant).decode


class Router:
    """Routes single applications to the canary or to this pod, as the operator's route says."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        metrics: ArmMetrics,
        pairs: Pairs,
        pod: str,
        client: Callable[[aiohttp.ClientSession, str], CanaryClient] = CanaryClient,
    ) -> None:
        """Take a session that keeps connections alive, both arms' metrics, where pairs go, and this pod's name.

        `client` makes what sends requests to the canary.
        """
        self._client, self._metrics, self._pairs = client(session, pod), metrics, pairs
        self._shadows = ShadowQueue(self._client, metrics, pairs)
        self._salt = ""
        # None while nothing is routed: then a request pays for one attribute lookup.
        self.canary: CanaryRoute | None = None

    def apply(self, route: Route | None) -> None:
        """Apply a new route; None answers everything in this pod."""
        old, self.canary = self.canary, route.canary if route else None
        self._salt = route.salt if route else ""
        if old is None or self.canary is None or old.version != self.canary.version:
            self._client.breaker.reset()
        self._metrics.generation.set(route.generation if route else 0)

    async def answer(
        self,
        canary: CanaryRoute,
        origin: Origin,
        body: bytes,
        champion: Champion,
        query: str = "",
    ) -> Score | bytes:
        """Answer a request while there is a canary.

        Args:
            canary: The canary's part of the route.
            origin: Where the request came from.
            body: The request's body.
            champion: Scores the request in this pod.
            query: The request's query string, passed on to the canary.

        Raises:
            Problem: If the champion refuses the request too.
        """
        if self._pairs.champion_version == canary.version:
            # In the rolling update that ends a rollout: this stable pod is what those before it forward to.
            return await champion(origin)
        key = origin.applicant_id or _applicant_in(body) or origin.request_id
        chosen = canary.includes(key, self._salt, time.time())
        if not chosen:
            score, seconds = await _timed(champion, origin)
            if canary.mode == "live":
                self._metrics.answered("stable", score.model.version, score, seconds)
            return score
        if canary.mode == "shadow":
            score, seconds = await _timed(champion, origin)
            self._shadows.add(canary, origin, body, query, score, seconds)
            return score
        answer = await self._client.score(canary, origin, body, query)
        if answer.score is not None:
            self._metrics.answered("canary", canary.version, answer.score, answer.seconds)
            self._pairs.add(canary.version, body, answer.score)
            return answer.body
        return await self._fall_back(canary, answer, champion, origin)

    async def run_shadow_workers(self) -> None:
        """Send shadow copies to the canary until cancelled."""
        await self._shadows.run_workers()

    async def _fall_back(self, canary: CanaryRoute, answer: CanaryAnswer, champion: Champion, origin: Origin) -> Score:
        try:
            score = await champion(msgspec.structs.replace(origin, role="fall-back"))
        except Problem as problem:
            # If both refuse a request it is the client's fault, not the canary's.
            if problem.status >= 500 or answer.outcome != "refused":
                self._metrics.failed(canary.version, answer.outcome, answer.seconds)
            raise
        self._metrics.failed(canary.version, answer.outcome, answer.seconds)
        return score


def _applicant_in(body: bytes) -> str | None:
    try:
        return _decode_applicant(body).applicant_id
    except BAD_JSON:
        return None


async def _timed(champion: Champion, origin: Origin) -> tuple[Score, float]:
    started = time.perf_counter()
    return await champion(origin), time.perf_counter() - started
