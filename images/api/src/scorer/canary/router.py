"""Asks the canary for its share of the applicants, and keeps both arms' books for whoever judges it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from scorer.applications.decoder import BAD_JSON
from scorer.auth.middleware import credentials
from scorer.canary.route import CanaryRoute, Route
from scorer.metrics import LATENCY_BUCKETS, SCORE_BUCKETS
from scorer.problems import Problem
from scorer.scoring.single import Score

# A request that carries it was sent by a stable pod: it is answered here, whatever the route says.
FORWARDED = "x-creditrisk-forwarded"
APPLICANT = "x-applicant-id"
# After so many failures in a row the canary is left alone for a moment, so that its dying slows nobody down.
BREAKER_FAILURES = 5
BREAKER_SECONDS = 1.0
SKIPPED = "skipped"
SHADOW_QUEUE = 256
SHADOW_WORKERS = 4
# A shadow copy: the route, the body, the champion's answer and its seconds, and what the client showed.
Copy = tuple[CanaryRoute, bytes, Score, float, dict[str, str]]
# Scores a request here.
Champion = Callable[[], Awaitable[Score]]
_CONNECTION_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class _Applicant(msgspec.Struct):
    applicant_id: str | None = None


_applicant = msgspec.json.Decoder(_Applicant)
_answer = msgspec.json.Decoder(Score)


class ArmMetrics:
    """What both arms answered, for the operator's judgement. Counted only while there is a canary."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make all metrics at zero."""
        arms = ["arm", "version"]
        self.generation = Gauge("scorer_route_generation", "The route's generation that is in force", registry=registry)
        self.requests = Counter(
            "scorer_arm_requests_total", "Requests by arm and outcome", [*arms, "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "scorer_arm_seconds", "Time to an arm's answer as the stable pod sees it, in seconds", arms,
            buckets=LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip
        self.scores = Histogram(
            "scorer_arm_probability_of_default", "Probabilities of default by arm", arms,
            buckets=SCORE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.decisions = Counter(
            "scorer_arm_decisions_total", "Decisions by arm", [*arms, "decision"], registry=registry
        )
        self.pairs = Counter(
            "scorer_shadow_pairs_total", "Shadow copies by whether the decision was the same", ["version", "agreement"],
            registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "scorer_shadow_dropped_total", "Shadow copies that found the queue full", ["version"], registry=registry
        )

    def answered(self, arm: str, version: str, score: Score, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(arm, version, "ok").inc()
        self.seconds.labels(arm, version).observe(seconds)
        self.scores.labels(arm, version).observe(score.probability_of_default)
        self.decisions.labels(arm, version, score.decision).inc()

    def failed(self, version: str, reply: Reply) -> None:
        """Count a request that the canary did not answer; one that it was spared says nothing about its speed."""
        self.requests.labels("canary", version, reply.outcome).inc()
        if reply.outcome != SKIPPED:
            self.seconds.labels("canary", version).observe(reply.seconds)


@dataclass(frozen=True)
class Reply:
    """What came of asking the canary; `score` and `body` only with the outcome ok."""

    outcome: str
    seconds: float
    score: Score | None = None
    body: bytes = b""


class Router:
    """The stable pod as router."""

    def __init__(self, session: aiohttp.ClientSession, metrics: ArmMetrics, pod: str) -> None:
        """Take a session that keeps connections alive, the arms' metrics and this pod's name."""
        self._session, self._metrics, self._pod = session, metrics, pod
        self._salt = ""
        self._failures, self._closed_until = 0, 0.0
        self._shadows: asyncio.Queue[Copy] = asyncio.Queue(SHADOW_QUEUE)
        # None whenever nothing is routed: then a request costs one look at it.
        self.canary: CanaryRoute | None = None

    def follow(self, route: Route | None) -> None:
        """Take a new route; without one, everything is answered here."""
        old, self.canary = self.canary, route.canary if route else None
        self._salt = route.salt if route else ""
        if old is None or self.canary is None or old.version != self.canary.version:
            self._failures, self._closed_until = 0, 0.0
        self._metrics.generation.set(route.generation if route else 0)

    async def answer(
        self,
        canary: CanaryRoute,
        applicant: str | None,
        request_id: str,
        body: bytes,
        champion: Champion,
        query: str = "",
    ) -> Score | bytes:
        """Answer a request while there is a canary.

        Args:
            canary: The canary's part of the route.
            applicant: The X-Applicant-Id header, if any.
            request_id: The request's id.
            body: The request's body.
            champion: Scores the request here.
            query: The request's query string, which the canary is given too.

        Raises:
            Problem: when the request is one that the champion refuses as well.
        """
        mine = canary.picks(applicant or _applicant_in(body) or request_id, self._salt, time.time())
        if not mine:
            score, seconds = await _timed(champion)
            if canary.mode == "live" and score.model.version != canary.version:
                self._metrics.answered("stable", score.model.version, score, seconds)
            return score
        if canary.mode == "shadow":
            score, seconds = await _timed(champion)
            self._copy(canary, body, score, seconds)
            return score
        reply = await self._ask(canary, request_id, body, query)
        if reply.score is not None:
            self._metrics.answered("canary", canary.version, reply.score, reply.seconds)
            return reply.body
        return await self._fall_back(canary, reply, champion)

    async def keep_shadowing(self) -> None:
        """Send the copies, a few at a time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SHADOW_WORKERS):
                group.create_task(self._shadow())

    async def _fall_back(self, canary: CanaryRoute, reply: Reply, champion: Champion) -> Score:
        try:
            score = await champion()
        except Problem as problem:
            # Both refuse it: the client's fault, not the canary's.
            if problem.status >= 500 or reply.outcome != "refused":
                self._metrics.failed(canary.version, reply)
            raise
        self._metrics.failed(canary.version, reply)
        return score

    def _copy(self, canary: CanaryRoute, body: bytes, score: Score, seconds: float) -> None:
        try:
            self._shadows.put_nowait((canary, body, score, seconds, credentials.get({})))
        except asyncio.QueueFull:
            self._metrics.dropped.labels(canary.version).inc()

    async def _shadow(self) -> None:
        while True:
            canary, body, champion, seconds, shown = await self._shadows.get()
            credentials.set(shown)
            reply = await self._ask(canary, champion.request_id, body)
            if reply.score is None:
                self._metrics.failed(canary.version, reply)
                continue
            self._metrics.answered("stable", champion.model.version, champion, seconds)
            self._metrics.answered("canary", canary.version, reply.score, reply.seconds)
            agreement = "same" if reply.score.decision == champion.decision else "different"
            self._metrics.pairs.labels(canary.version, agreement).inc()

    async def _ask(self, canary: CanaryRoute, request_id: str, body: bytes, query: str = "") -> Reply:
        started = time.perf_counter()
        if started < self._closed_until:
            return Reply(SKIPPED, 0.0)
        outcome, score, answer = "unreachable", None, b""
        try:
            async with asyncio.timeout(canary.deadline_milliseconds / 1000):
                status, answer = await self._post(canary, request_id, body, query)
            outcome = "ok" if status == 200 else "refused" if status < 500 else "error"
            if status == 200:
                score = _answer.decode(answer)
                if score.model.version != canary.version:
                    outcome, score = "wrong-version", None
        except TimeoutError:
            outcome = "timeout"
        except BAD_JSON:
            outcome = "error"
        except aiohttp.ClientError:
            outcome = "unreachable"
        self._note(healthy=outcome in {"ok", "refused"})
        return Reply(outcome, time.perf_counter() - started, score, answer)

    async def _post(self, canary: CanaryRoute, request_id: str, body: bytes, query: str) -> tuple[int, bytes]:
        own = {"content-type": "application/json", "x-request-id": request_id, FORWARDED: self._pod or "1"}
        headers = {**own, **credentials.get({})}
        url = f"{canary.url}/v1/score{'?' if query else ''}{query}"
        try:
            async with self._session.post(url, data=body, headers=headers) as response:
                return response.status, await response.read()
        except _CONNECTION_LOST:
            # A kept connection whose other end went meanwhile; scoring twice harms nobody.
            async with self._session.post(url, data=body, headers=headers) as response:
                return response.status, await response.read()

    def _note(self, *, healthy: bool) -> None:
        self._failures = 0 if healthy else self._failures + 1
        if self._failures >= BREAKER_FAILURES:
            self._failures, self._closed_until = 0, time.perf_counter() + BREAKER_SECONDS


def _applicant_in(body: bytes) -> str | None:
    try:
        return _applicant.decode(body).applicant_id
    except BAD_JSON:
        return None


async def _timed(champion: Champion) -> tuple[Score, float]:
    started = time.perf_counter()
    return await champion(), time.perf_counter() - started
