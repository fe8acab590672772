"""The route: nested sticky buckets, and a file that is read again when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.canary.route import BUCKETS, CanaryRoute, Route, StableRoute, bucket, read_route, watch_route
from unit.scorer.contracts import FOLDER

NOW = 1_800_000_000.0


def test_the_golden_routes_are_read() -> None:
    canary = CanaryRoute("4", "http://scoring-canary:8000", 25, "live", 1000, 5, 1764300005.5)
    assert read_route(FOLDER / "golden/route.json") == Route(1764300000, "credit-risk", StableRoute("3"), canary)
    assert read_route(FOLDER / "golden/route-without-canary.json") == Route(7, "credit-risk", StableRoute("3"))


@given(st.text(max_size=40), st.integers(1, 100), st.integers(1, 100))
def test_a_larger_share_includes_every_applicant_of_a_smaller_one(key: str, one: int, other: int) -> None:
    small, large = (CanaryRoute("2", "", weight, "live", 1) for weight in sorted((one, other)))
    assert not small.includes(key, "salt", NOW) or large.includes(key, "salt", NOW)


def test_a_larger_weight_takes_effect_at_its_time() -> None:
    route = CanaryRoute("2", "http://canary", 60, "live", 100, previous_weight=30, effective_at=NOW)
    small = CanaryRoute("2", "http://canary", 30, "live", 100)
    keys = [f"applicant-{n}" for n in range(500)]
    before = [route.includes(key, "salt", NOW - 0.001) for key in keys]
    assert before == [small.includes(key, "salt", NOW) for key in keys]
    assert sum(route.includes(key, "salt", NOW) for key in keys) > sum(before)


def test_the_share_of_applicants_is_the_weight() -> None:
    route = CanaryRoute("2", "", 25, "live", 1)
    share = sum(route.includes(f"applicant-{n}", "credit-risk", NOW) for n in range(20000)) / 20000
    assert share == pytest.approx(0.25, abs=0.015)


def test_buckets_are_the_same_in_every_process_and_differ_by_salt() -> None:
    assert bucket("applicant-1", "credit-risk") == 8207
    assert sum(bucket(f"applicant-{n}", "a") == bucket(f"applicant-{n}", "b") for n in range(100)) < 5
    assert all(0 <= bucket(str(n), "a") < BUCKETS for n in range(1000))


async def test_a_route_is_reported_when_it_appears_changes_and_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, seen = tmp_path / "route.json", list[Route | None]()
    watching = asyncio.create_task(watch_route(file, 0.01, seen.append))

    async def until(reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not reached():
                await asyncio.sleep(0.01)

    await until(lambda: len(seen) == 1)
    file.write_text('{"generation": 3, "salt": "s", "stable": {"version": "1"}}')
    await until(lambda: len(seen) == 2)
    other = tmp_path / "other"
    other.write_text("half a rou")
    other.rename(file)
    await until(lambda: f"ignored the route in {file}" in caplog.text)
    file.unlink()
    await until(lambda: len(seen) == 3)
    watching.cancel()
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1].generation == 3
    assert seen[2] is None
    assert read_route(file) is None
