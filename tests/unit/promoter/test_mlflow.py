"""The Registry port: one call per pointer, and three kinds of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from promoter.adapters.mlflow import MlflowRegistry
from promoter.api.spec import ModelRef
from promoter.errors import PermanentError, RetryableError


@pytest.fixture
async def mlflow() -> AsyncIterator[tuple[MlflowRegistry, list[tuple[str, dict[str, str]]], dict[str, web.Response]]]:
    calls: list[tuple[str, dict[str, str]]] = []
    answers: dict[str, web.Response] = {}

    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else {}
        calls.append((request.path.removeprefix("/api/2.0/mlflow/"), {**request.query, **body}))
        return answers["next"]

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield MlflowRegistry(session, f"http://127.0.0.1:{runner.addresses[0][1]}/"), calls, answers
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
    registry, calls, answers = mlflow
    answers["next"] = web.json_response(answer)
    assert await registry.desired_version(ModelRef(name="loans", **pointer)) == "7"
    assert [call[0] for call in calls] == [path]
    assert calls[0][1]["name"] == "loans"


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
async def test_absent_unavailable_and_refused_are_three_different_answers(
    mlflow: Mlflow, answer: tuple[int, object], outcome: type[Exception] | None
) -> None:
    registry, _, answers = mlflow
    status, body = answer
    answers["next"] = web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(
        body, status=status)  # fmt: skip
    if outcome is None:
        assert await registry.desired_version(ModelRef(name="loans")) is None
    else:
        with pytest.raises(outcome):
            await registry.desired_version(ModelRef(name="loans"))
