"""Polling the registry: one call per pointer and interval, fewer while it is unavailable, at once on request."""

from __future__ import annotations

import pytest

from promoter.api.spec import ModelRef
from promoter.errors import PermanentError, RetryableError
from promoter.poll import Poller

LOANS, CARDS = ModelRef(name="loans"), ModelRef(name="cards")


class Registry:
    def __init__(self) -> None:
        self.polled: list[str] = []
        self.checked: list[str] = []
        self.desired: str | None = "7"
        self.versions = {"7"}
        self.fault: Exception | None = None

    async def desired_version(self, model: ModelRef) -> str | None:
        self.polled.append(model.name)
        if self.fault:
            raise self.fault
        return self.desired

    async def version_exists(self, model: str, version: str) -> bool:
        self.checked.append(f"{model}/{version}")
        if self.fault:
            raise self.fault
        return version in self.versions


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def poller(registry: Registry, clock: Clock) -> Poller:
    return Poller(registry, 10, 60, clock)


async def test_a_pointer_is_polled_once_per_interval_however_many_promotions_share_it(
    poller: Poller, registry: Registry, clock: Clock
) -> None:
    for second in range(9):
        clock.now = 100 + second
        assert (await poller.view(LOANS, None)).desired == "7"
    assert registry.polled == ["loans"]
    clock.now = 110
    await poller.view(LOANS, None)
    assert registry.polled == ["loans", "loans"]


async def test_the_interval_has_jitter_and_is_never_longer_than_promised(poller: Poller, clock: Clock) -> None:
    waits = []
    for _ in range(50):
        clock.now += 10
        await poller.view(LOANS, None)
        waits.append(poller.due_in((LOANS, None)))
    assert all(9 <= wait <= 10 for wait in waits)
    assert max(waits) - min(waits) > 0.1


@pytest.mark.parametrize("fault", [RetryableError("refused"), PermanentError("403")])
async def test_an_unavailable_registry_is_polled_less_and_less_and_the_reason_is_kept(
    poller: Poller, registry: Registry, clock: Clock, fault: Exception
) -> None:
    registry.fault = fault
    waits = []
    for _ in range(6):
        view = await poller.view(LOANS, None)
        assert (view.desired, view.error) == (None, str(fault))
        waits.append(poller.due_in((LOANS, None)))
        clock.now += waits[-1] + 0.01
    assert waits[1] > waits[0] * 1.5
    assert waits[2] > waits[1] * 1.5
    assert max(waits) <= 60
    registry.fault = None
    assert (await poller.view(LOANS, None)).desired == "7"
    assert poller.due_in((LOANS, None)) <= 10


async def test_expiring_a_model_polls_that_model_alone(poller: Poller, registry: Registry) -> None:
    await poller.view(LOANS, None)
    await poller.view(CARDS, None)
    poller.expire("cards")
    await poller.view(LOANS, None)
    await poller.view(CARDS, None)
    assert registry.polled == ["loans", "cards", "cards"]


async def test_the_age_is_the_time_since_the_last_answer(poller: Poller, registry: Registry, clock: Clock) -> None:
    assert poller.age == 0
    await poller.view(LOANS, None)
    registry.fault = RetryableError("refused")
    for _ in range(3):
        clock.now += 60
        await poller.view(LOANS, None)
    assert poller.age == 180
    poller.retain(set())
    assert poller.age == 0


async def test_the_stable_version_is_looked_up_with_the_pointer_unless_the_pointer_names_it(
    poller: Poller, registry: Registry
) -> None:
    assert not (await poller.view(LOANS, "7")).stable_missing
    assert registry.checked == []
    assert (await poller.view(LOANS, "6")).stable_missing
    assert registry.checked == ["loans/6"]
    registry.versions, registry.desired = {"5"}, None
    assert not (await poller.view(LOANS, "5")).stable_missing


async def test_a_stable_version_that_was_missing_stays_so_while_the_registry_is_unavailable(
    poller: Poller, registry: Registry, clock: Clock
) -> None:
    await poller.view(LOANS, "6")
    registry.fault = RetryableError("refused")
    clock.now += 10
    view = await poller.view(LOANS, "6")
    assert (view.error, view.stable_missing) == ("refused", True)


async def test_promotions_of_the_same_model_with_other_stable_versions_are_polled_on_their_own(
    poller: Poller, registry: Registry
) -> None:
    for stable in ("6", "7", "6"):
        await poller.view(LOANS, stable)
    assert (registry.polled, registry.checked) == (["loans", "loans"], ["loans/6"])
    poller.retain({(LOANS, "7")})
    await poller.view(LOANS, "6")
    assert registry.polled == ["loans"] * 3
