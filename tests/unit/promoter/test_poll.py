"""The registry watch: one call per pointer and interval, less often while it does not answer, at once when hurried."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from promoter.adapters.mlflow import MlflowRegistry
from promoter.api.spec import ModelRef
from promoter.errors import PermanentError, RetryableError
from promoter.poll import Poller

LOANS, CARDS = ModelRef(name="loans"), ModelRef(name="cards")


class Registry:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Exception | None = None

    async def desired(self, model: ModelRef) -> str | None:
        self.asked.append(model.name)
        if self.fault:
            raise self.fault
        return "7"

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        raise NotImplementedError


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


async def test_a_pointer_is_asked_for_once_per_interval_however_many_want_it(
    poller: Poller, registry: Registry, clock: Clock
) -> None:
    for second in range(9):
        clock.now = 100 + second
        assert (await poller.view(LOANS)).desired == "7"
    assert registry.asked == ["loans"]
    clock.now = 110
    await poller.view(LOANS)
    assert registry.asked == ["loans", "loans"]


async def test_the_interval_is_spread_and_never_longer_than_promised(poller: Poller, clock: Clock) -> None:
    waits = []
    for _ in range(50):
        clock.now += 10
        await poller.view(LOANS)
        waits.append(poller.due_in(LOANS))
    assert all(9 <= wait <= 10 for wait in waits)
    assert max(waits) - min(waits) > 0.1


@pytest.mark.parametrize("fault", [RetryableError("refused"), PermanentError("403")])
async def test_an_unreachable_registry_is_asked_less_and_less_and_the_reason_is_kept(
    poller: Poller, registry: Registry, clock: Clock, fault: Exception
) -> None:
    registry.fault = fault
    waits = []
    for _ in range(6):
        view = await poller.view(LOANS)
        assert (view.desired, view.error) == (None, str(fault))
        waits.append(poller.due_in(LOANS))
        clock.now += waits[-1] + 0.01
    assert waits[1] > waits[0] * 1.5
    assert waits[2] > waits[1] * 1.5
    assert max(waits) <= 60
    registry.fault = None
    assert (await poller.view(LOANS)).desired == "7"
    assert poller.due_in(LOANS) <= 10


async def test_a_webhook_hurries_its_model_alone(poller: Poller, registry: Registry) -> None:
    await poller.view(LOANS)
    await poller.view(CARDS)
    poller.hurry("cards")
    await poller.view(LOANS)
    await poller.view(CARDS)
    assert registry.asked == ["loans", "cards", "cards"]


async def test_the_age_is_that_of_the_last_answer(poller: Poller, registry: Registry, clock: Clock) -> None:
    assert poller.age == 0
    await poller.view(LOANS)
    registry.fault = RetryableError("refused")
    for _ in range(3):
        clock.now += 60
        await poller.view(LOANS)
    assert poller.age == 180
    poller.forget(set())
    assert poller.age == 0


@pytest.fixture
async def mlflow() -> AsyncIterator[tuple[MlflowRegistry, list[tuple[str, dict[str, str]]], dict[str, web.Response]]]:
    asked: list[tuple[str, dict[str, str]]] = []
    answers: dict[str, web.Response] = {}

    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else {}
        asked.append((request.path.removeprefix("/api/2.0/mlflow/"), {**request.query, **body}))
        return answers["next"]

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield MlflowRegistry(session, f"http://127.0.0.1:{runner.addresses[0][1]}/"), asked, answers
    await runner.cleanup()


Mlflow = tuple[MlflowRegistry, list[tuple[str, dict[str, str]]], dict[str, web.Response]]


@pytest.mark.parametrize(
    ("pointer", "path", "answer"),
    [
        ({}, "registered-models/alias", {"model_version": {"version": "7"}}),
        ({"version": "7"}, "model-versions/get", {"model_version": {"version": "7"}}),
        ({"stage": "Production"}, "registered-models/get-latest-versions", {"model_versions": [{"version": "7"}]}),
    ],
)
async def test_alias_stage_and_pin_cost_one_call_each(
    mlflow: Mlflow, pointer: dict[str, str], path: str, answer: dict[str, object]
) -> None:
    registry, asked, answers = mlflow
    answers["next"] = web.json_response(answer)
    assert await registry.desired(ModelRef(name="loans", **pointer)) == "7"
    assert [call[0] for call in asked] == [path]
    assert asked[0][1]["name"] == "loans"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}), None),
        ((400, {"error_code": "INVALID_PARAMETER_VALUE"}), None),
        ((200, {"model_versions": []}), None),
        ((200, {}), None),
        ((503, {"error_code": "TEMPORARILY_UNAVAILABLE"}), RetryableError),
        ((429, {}), RetryableError),
        ((403, {"error_code": "PERMISSION_DENIED"}), PermanentError),
        ((404, "<html>"), RetryableError),
        ((200, {"model_version": {"name": "no version"}}), RetryableError),
        ((200, ["a list"]), RetryableError),
    ],
)  # fmt: skip
async def test_absent_is_not_unreachable_is_not_refused(
    mlflow: Mlflow, answer: tuple[int, object], outcome: type[Exception] | None
) -> None:
    registry, _, answers = mlflow
    status, body = answer
    answers["next"] = web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(
        body, status=status)  # fmt: skip
    if outcome is None:
        assert await registry.desired(LOANS) is None
    else:
        with pytest.raises(outcome):
            await registry.desired(LOANS)
