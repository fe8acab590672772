"""The stable pod as router: sticky nested buckets, fall-back to the champion, books for both arms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from scorer.canary.route import BUCKETS, CanaryRoute, Route, bucket, read_route, watch_route
from scorer.canary.router import BREAKER_FAILURES, FORWARDED, ArmMetrics, Router
from scorer.problems import Problem
from scorer.scoring.single import ModelReference, Score

NOW = 1_800_000_000.0
CHAMPION = Score("request", 0.2, 573, "approve", ModelReference("credit-risk", "1"), "stable-pod")
CANARY = Score("request", 0.8, 447, "decline", ModelReference("credit-risk", "2"), "canary-pod")
Mode = Literal["live", "shadow"]
Routed = tuple[Router, CanaryRoute, CollectorRegistry]
Handler = Callable[[web.Request], Awaitable[web.Response]]


async def champion() -> Score:
    return CHAMPION


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
async def router_to(url: str, weight: int = 100, mode: Mode = "live") -> AsyncIterator[Routed]:
    registry = CollectorRegistry()
    async with aiohttp.ClientSession() as session:
        router = Router(session, ArmMetrics(registry), "stable-pod")
        route = CanaryRoute("2", url, weight, mode, 200)
        router.follow(Route(7, "credit-risk", None, route))
        yield router, route, registry


async def good(_: web.Request) -> web.Response:
    return web.json_response(body=msgspec.json.encode(CANARY))


def outcomes(registry: CollectorRegistry, arm: str, version: str, outcome: str) -> float:
    labels = {"arm": arm, "version": version, "outcome": outcome}
    return registry.get_sample_value("scorer_arm_requests_total", labels) or 0.0


@given(st.text(max_size=40), st.integers(1, 100), st.integers(1, 100))
def test_a_larger_share_holds_every_applicant_of_a_smaller_one(key: str, one: int, other: int) -> None:
    small, large = (CanaryRoute("2", "", weight, "live", 1) for weight in sorted((one, other)))
    assert not small.picks(key, "salt", NOW) or large.picks(key, "salt", NOW)


def test_a_larger_weight_holds_from_its_time_on() -> None:
    route = CanaryRoute("2", "http://canary", 60, "live", 100, raised_from=30, raised_at=NOW)
    small = CanaryRoute("2", "http://canary", 30, "live", 100)
    keys = [f"applicant-{n}" for n in range(500)]
    before = [route.picks(key, "salt", NOW - 0.001) for key in keys]
    assert before == [small.picks(key, "salt", NOW) for key in keys]
    assert sum(route.picks(key, "salt", NOW) for key in keys) > sum(before)


def test_the_share_is_the_weight() -> None:
    route = CanaryRoute("2", "", 25, "live", 1)
    share = sum(route.picks(f"applicant-{n}", "credit-risk", NOW) for n in range(20000)) / 20000
    assert share == pytest.approx(0.25, abs=0.015)


def test_buckets_are_the_same_in_every_process_and_differ_by_salt() -> None:
    assert bucket("applicant-1", "credit-risk") == 8207
    assert sum(bucket(f"applicant-{n}", "a") == bucket(f"applicant-{n}", "b") for n in range(100)) < 5
    assert all(0 <= bucket(str(n), "a") < BUCKETS for n in range(1000))


async def test_the_canarys_share_is_answered_by_the_canary_in_its_own_words() -> None:
    headers: list[str | None] = []

    async def note(request: web.Request) -> web.Response:
        headers.append(request.headers.get(FORWARDED))
        return await good(request)

    async with canary_that(note) as url, router_to(url) as (router, route, registry):
        assert await router.answer(route, "a", "r", b"{}", champion) == msgspec.json.encode(CANARY)
        assert headers == ["stable-pod"]
        assert outcomes(registry, "canary", "2", "ok") == 1


async def test_the_rest_is_answered_here_and_counted_for_the_champion() -> None:
    async with router_to("http://127.0.0.1:9", weight=1) as (router, route, registry):
        outside = next(f"a{n}" for n in range(1000) if not route.picks(f"a{n}", "credit-risk", NOW))
        assert await router.answer(route, outside, "r", b"{}", champion) == CHAMPION
        assert outcomes(registry, "stable", "1", "ok") == 1


async def test_the_header_goes_before_the_bodys_applicant_and_that_before_the_request() -> None:
    async with router_to("http://127.0.0.1:9", weight=50) as (router, route, registry):
        inside = next(f"a{n}" for n in range(1000) if route.picks(f"a{n}", "credit-risk", NOW))
        outside = next(f"a{n}" for n in range(1000) if not route.picks(f"a{n}", "credit-risk", NOW))
        body = json.dumps({"applicant_id": inside}).encode()
        await router.answer(route, outside, inside, body, champion)
        assert outcomes(registry, "canary", "2", "unreachable") == 0
        await router.answer(route, None, outside, body, champion)
        assert outcomes(registry, "canary", "2", "unreachable") == 1
        await router.answer(route, None, inside, b"{}", champion)
        assert outcomes(registry, "canary", "2", "unreachable") == 2


async def fails(_: web.Request) -> web.Response:
    return web.Response(status=500)


async def is_slow(_: web.Request) -> web.Response:
    await asyncio.sleep(2)
    return web.Response()


async def babbles(_: web.Request) -> web.Response:
    return web.Response(text="no score")


async def refuses(_: web.Request) -> web.Response:
    return web.Response(status=422)


async def is_another_version(_: web.Request) -> web.Response:
    return web.json_response(body=msgspec.json.encode(CHAMPION))


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [(fails, "error"), (is_slow, "timeout"), (babbles, "error"), (refuses, "refused"),
     (is_another_version, "wrong-version")],
)  # fmt: skip
async def test_a_bad_canary_costs_the_client_nothing_and_counts_against_it(handler: Handler, outcome: str) -> None:
    async with canary_that(handler) as url, router_to(url) as (router, route, registry):
        assert await router.answer(route, "a", "r", b"{}", champion) == CHAMPION
        assert outcomes(registry, "canary", "2", outcome) == 1


async def test_what_the_champion_refuses_too_is_the_clients_fault() -> None:
    async def refusing() -> Score:
        raise Problem(422, "wrong")

    async with canary_that(refuses) as url, router_to(url) as (router, route, registry):
        with pytest.raises(Problem):
            await router.answer(route, "a", "r", b"{}", refusing)
        assert outcomes(registry, "canary", "2", "refused") == 0


async def test_a_dying_canary_is_left_alone_for_a_moment() -> None:
    async with router_to("http://127.0.0.1:9") as (router, route, registry):
        for _ in range(BREAKER_FAILURES + 3):
            assert await router.answer(route, "a", "r", b"{}", champion) == CHAMPION
        assert outcomes(registry, "canary", "2", "unreachable") == BREAKER_FAILURES
        assert outcomes(registry, "canary", "2", "skipped") == 3
        labels = {"arm": "canary", "version": "2"}
        assert registry.get_sample_value("scorer_arm_seconds_count", labels) == BREAKER_FAILURES


async def test_a_shadow_answers_nobody_and_is_compared() -> None:
    async with canary_that(good) as url, router_to(url, mode="shadow") as (router, route, registry):
        shadowing = asyncio.create_task(router.keep_shadowing())
        assert await router.answer(route, "a", "r", b"{}", champion) == CHAMPION
        labels = {"version": "2", "agreement": "different"}
        async with asyncio.timeout(5):
            while not registry.get_sample_value("scorer_shadow_pairs_total", labels):
                await asyncio.sleep(0.01)
        assert outcomes(registry, "stable", "1", "ok") == outcomes(registry, "canary", "2", "ok") == 1
        shadowing.cancel()


async def test_copies_that_find_the_queue_full_are_dropped_and_counted() -> None:
    async with router_to("http://127.0.0.1:9", mode="shadow") as (router, route, registry):
        for _ in range(300):
            await router.answer(route, "a", "r", b"{}", champion)
        assert registry.get_sample_value("scorer_shadow_dropped_total", {"version": "2"}) == 300 - 256


async def test_a_route_is_followed_as_it_comes_changes_and_goes(tmp_path: Path) -> None:
    file, seen = tmp_path / "route.json", list[Route | None]()
    watching = asyncio.create_task(watch_route(file, 0.01, seen.append))

    async def until(count: int) -> None:
        async with asyncio.timeout(5):
            while len(seen) < count:
                await asyncio.sleep(0.01)

    await until(1)
    file.write_text('{"generation": 3, "salt": "s", "stable": {"version": "1"}}')
    await until(2)
    other = tmp_path / "other"
    other.write_text("half a rou")
    other.rename(file)
    await asyncio.sleep(0.1)
    file.unlink()
    await until(3)
    watching.cancel()
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1].generation == 3
    assert seen[2] is None
    assert read_route(file) is None
