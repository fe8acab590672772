"""The stable pod as a router: which arm answers, fallback to the champion, shadow copies, metrics for both arms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from scorer.answers import ModelReference, Score
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.breaker import FAILURES_TO_OPEN
from scorer.canary.client import FORWARDED, role_of
from scorer.canary.route import CanaryRoute, Route
from scorer.canary.router import Router
from scorer.decision_log.origin import Origin
from scorer.problems import Problem

NOW = 1_800_000_000.0
CHAMPION = Score("request", 0.2, 573, "approve", ModelReference("credit-risk", "1"), "stable-pod")
CANARY = Score("request", 0.8, 447, "decline", ModelReference("credit-risk", "2"), "canary-pod")
Mode = Literal["live", "shadow"]
Routed = tuple[Router, CanaryRoute, CollectorRegistry]
Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass
class Kept:
    """Keeps the pairs that it is given."""

    champion_version: str | None = "1"
    pairs: list[tuple[str, bytes, Score, Score | None]] = field(default_factory=list)

    def add(self, version: str, body: bytes, canary: Score) -> None:
        self.pairs.append((version, body, canary, None))

    def add_answered(self, version: str, body: bytes, canary: Score, champion: Score) -> None:
        self.pairs.append((version, body, canary, champion))


async def champion(_: Origin) -> Score:
    return CHAMPION


def origin(applicant: str | None = "a", request_id: str = "r") -> Origin:
    return Origin(request_id, "score", 0.0, applicant_id=applicant)


@asynccontextmanager
async def canary_that(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/score", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def router_to(
    url: str, weight: int = 100, mode: Mode = "live", pairs: Kept | None = None
) -> AsyncIterator[Routed]:
    registry = CollectorRegistry()
    async with aiohttp.ClientSession() as session:
        router = Router(session, ArmMetrics(registry), pairs or Kept(), "stable-pod")
        route = CanaryRoute("2", url, weight, mode, 200)
        router.apply(Route(7, "credit-risk", None, route))
        yield router, route, registry


async def good(_: web.Request) -> web.Response:
    return web.json_response(body=msgspec.json.encode(CANARY))


def outcomes(registry: CollectorRegistry, arm: str, version: str, outcome: str) -> float:
    labels = {"arm": arm, "version": version, "outcome": outcome}
    return registry.get_sample_value("scorer_arm_requests_total", labels) or 0.0


async def test_the_canarys_share_gets_the_canarys_answer_byte_for_byte() -> None:
    headers: list[str | None] = []

    async def note(request: web.Request) -> web.Response:
        headers.append(request.headers.get(FORWARDED))
        return await good(request)

    async with canary_that(note) as url, router_to(url) as (router, route, registry):
        assert await router.answer(route, origin(), b"{}", champion) == msgspec.json.encode(CANARY)
        assert headers == ["stable-pod"]
        assert outcomes(registry, "canary", "2", "ok") == 1


async def test_everyone_else_is_answered_by_the_champion_and_counted_for_it() -> None:
    async with router_to("http://127.0.0.1:9", weight=1) as (router, route, registry):
        outside = next(f"a{n}" for n in range(1000) if not route.includes(f"a{n}", "credit-risk", NOW))
        assert await router.answer(route, origin(outside), b"{}", champion) == CHAMPION
        assert outcomes(registry, "stable", "1", "ok") == 1


async def test_the_key_is_the_header_or_else_the_bodys_applicant_or_else_the_request_id() -> None:
    async with router_to("http://127.0.0.1:9", weight=50) as (router, route, registry):
        inside = next(f"a{n}" for n in range(1000) if route.includes(f"a{n}", "credit-risk", NOW))
        outside = next(f"a{n}" for n in range(1000) if not route.includes(f"a{n}", "credit-risk", NOW))
        body = json.dumps({"applicant_id": inside}).encode()
        await router.answer(route, origin(outside, inside), body, champion)
        assert outcomes(registry, "canary", "2", "unreachable") == 0
        await router.answer(route, origin(None, outside), body, champion)
        assert outcomes(registry, "canary", "2", "unreachable") == 1
        await router.answer(route, origin(None, inside), b"{}", champion)
        assert outcomes(registry, "canary", "2", "unreachable") == 2


async def fails(_: web.Request) -> web.Response:
    return web.Response(status=500)


async def is_slow(_: web.Request) -> web.Response:
    await asyncio.sleep(2)
    return web.Response()


async def sends_no_score(_: web.Request) -> web.Response:
    return web.Response(text="no score")


async def refuses(_: web.Request) -> web.Response:
    return web.Response(status=422)


async def is_another_version(_: web.Request) -> web.Response:
    return web.json_response(body=msgspec.json.encode(CHAMPION))


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [(fails, "error"), (is_slow, "timeout"), (sends_no_score, "error"), (refuses, "refused"),
     (is_another_version, "wrong-version")],
)  # fmt: skip
async def test_a_failing_canary_costs_the_client_nothing_and_counts_against_it(handler: Handler, outcome: str) -> None:
    async with canary_that(handler) as url, router_to(url) as (router, route, registry):
        assert await router.answer(route, origin(), b"{}", champion) == CHAMPION
        assert outcomes(registry, "canary", "2", outcome) == 1


async def test_a_request_that_the_champion_refuses_too_does_not_count_against_the_canary() -> None:
    async def refusing(_: Origin) -> Score:
        raise Problem(422, "wrong")

    async with canary_that(refuses) as url, router_to(url) as (router, route, registry):
        with pytest.raises(Problem):
            await router.answer(route, origin(), b"{}", refusing)
        assert outcomes(registry, "canary", "2", "refused") == 0


async def test_a_canary_that_keeps_failing_is_skipped_for_a_moment() -> None:
    async with router_to("http://127.0.0.1:9") as (router, route, registry):
        for _ in range(FAILURES_TO_OPEN + 3):
            assert await router.answer(route, origin(), b"{}", champion) == CHAMPION
        assert outcomes(registry, "canary", "2", "unreachable") == FAILURES_TO_OPEN
        assert outcomes(registry, "canary", "2", "skipped") == 3
        labels = {"arm": "canary", "version": "2"}
        assert registry.get_sample_value("scorer_arm_seconds_count", labels) == FAILURES_TO_OPEN


async def test_a_shadow_answer_reaches_no_client_and_is_compared() -> None:
    pairs, queries = Kept(), list[str]()

    async def note(request: web.Request) -> web.Response:
        queries.append(request.query_string)
        return await good(request)

    async with canary_that(note) as url, router_to(url, mode="shadow", pairs=pairs) as (router, route, registry):
        shadowing = asyncio.create_task(router.run_shadow_workers())
        assert await router.answer(route, origin(), b"{}", champion, "reasons=2") == CHAMPION
        async with asyncio.timeout(5):
            while not pairs.pairs:
                await asyncio.sleep(0.01)
        assert pairs.pairs == [("2", b"{}", CANARY, CHAMPION)]
        assert queries == ["reasons=2"], "the copy asks for what the request asked for"
        assert outcomes(registry, "stable", "1", "ok") == outcomes(registry, "canary", "2", "ok") == 1
        shadowing.cancel()


async def test_only_what_the_canary_answered_becomes_a_pair() -> None:
    pairs = Kept()
    async with canary_that(good) as url, router_to(url, pairs=pairs) as (router, route, _):
        await router.answer(route, origin(), b"[1]", champion)
    async with canary_that(fails) as url, router_to(url, pairs=pairs) as (router, route, _):
        await router.answer(route, origin(), b"[2]", champion)
    async with router_to("http://127.0.0.1:9", weight=0, pairs=pairs) as (router, route, _):
        await router.answer(route, origin(), b"[3]", champion)
    assert pairs.pairs == [("2", b"[1]", CANARY, None)]


@pytest.mark.parametrize("mode", ["live", "shadow"])
async def test_a_stable_pod_of_the_canarys_version_answers_everybody_itself(mode: Mode) -> None:
    """In the rolling update that ends a rollout, it answers as the canary would."""
    pairs = Kept(champion_version="2")

    async def promoted(_: Origin) -> Score:
        return CANARY

    async with router_to("http://127.0.0.1:9", weight=30, mode=mode, pairs=pairs) as (router, route, registry):
        for number in range(20):
            assert await router.answer(route, origin(f"a{number}"), b"{}", promoted) == CANARY
        assert list(registry.collect())
        assert not [s for family in registry.collect() for s in family.samples if s.labels.get("arm")]
    assert not pairs.pairs


async def test_the_canary_learns_whose_request_it_is_and_whether_it_is_a_copy() -> None:
    got: list[tuple[str | None, ...]] = []

    async def note(request: web.Request) -> web.Response:
        got.append(tuple(request.headers.get(name) for name in (FORWARDED, "X-Applicant-Id", "X-Request-Id")))
        return await good(request)

    async with canary_that(note) as url, router_to(url) as (router, route, _):
        await router.answer(route, origin("Zo\u00eb", "r-1"), b"{}", champion)
        await router.answer(route, origin(None, "r-2"), b"{}", champion)
    async with canary_that(note) as url, router_to(url, mode="shadow") as (router, route, _):
        shadowing = asyncio.create_task(router.run_shadow_workers())
        await router.answer(route, origin("a", "r-3"), b"{}", champion)
        async with asyncio.timeout(5):
            while len(got) < 3:
                await asyncio.sleep(0.01)
        shadowing.cancel()
    assert got == [
        ("stable-pod", "Zo\u00eb", "r-1"), ("stable-pod", None, "r-2"), ("stable-pod;shadow", "a", "r-3"),
    ]  # fmt: skip
    assert [role_of(str(mark).encode()) for mark, *_ in got] == ["canary", "canary", "shadow"]
    assert role_of(None) == "champion"


async def test_the_champion_knows_whether_it_answers_in_the_canarys_place() -> None:
    roles: list[str] = []

    async def noted(origin: Origin) -> Score:
        roles.append(origin.role)
        return CHAMPION

    async with canary_that(fails) as url:
        async with router_to(url) as (router, route, _):
            await router.answer(route, origin(), b"{}", noted)
        async with router_to(url, weight=0) as (router, route, _):
            await router.answer(route, origin(), b"{}", noted)
        async with router_to(url, mode="shadow") as (router, route, _):
            await router.answer(route, origin(), b"{}", noted)
    assert roles == ["fall-back", "champion", "champion"]


async def test_copies_are_dropped_and_counted_if_the_queue_is_full() -> None:
    async with router_to("http://127.0.0.1:9", mode="shadow") as (router, route, registry):
        for _ in range(300):
            await router.answer(route, origin(), b"{}", champion)
        assert registry.get_sample_value("scorer_shadow_dropped_total", {"version": "2"}) == 300 - 256
