"""The error boundary: whatever an application raises becomes an answer, once, and is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from scorer.http.asgi import App, ClientGoneError, Receive, Scope, Send, send_answer
from scorer.http.dispatcher import BODY_COMPLETE, BodyBudget, DirectRoute, Dispatcher
from scorer.problems import Problem
from unit.scorer.contracts import validator

NOTHING: Mapping[str, object] = MappingProxyType({})


def raising(error: Exception) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send_answer(send, b"{}")


class Counter:
    """What a direct route counted."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, float]] = []

    def __call__(self, status: int, started: float) -> None:
        self.counted.append((status, started))


class Refuses:
    """Admits no request."""

    async def admit(self, scope: Scope, send: Send) -> Send:
        raise Problem(401, "who are you")


async def call(
    app: App,
    path: str = "/direct",
    method: str = "POST",
    extra: Mapping[str, object] = NOTHING,
    body: bytes = b"",
) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "method": method, "headers": [], **extra}, receive, send)
    return sent


ERRORS = [
    (Problem(422, "wrong"), 422, "wrong"),
    (HTTPException(404, "Not Found"), 404, "Not Found"),
    (ZeroDivisionError("secret"), 500, "internal error; the service's log has the details"),
]


@pytest.mark.parametrize(("error", "status", "detail"), ERRORS)
@pytest.mark.parametrize("path", ["/direct", "/elsewhere"])
async def test_an_error_becomes_a_problem(error: Exception, status: int, detail: str, path: str) -> None:
    count = Counter()
    start, body = await call(Dispatcher(raising(error), DirectRoute("POST", "/direct", raising(error), count)), path)
    assert start["status"] == status
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert detail in body["body"].decode()
    # Only single applications are counted here; batches count rows.
    assert count.counted == ([(status, 0.0)] if path == "/direct" else [])


async def test_the_time_from_the_complete_body_is_counted() -> None:
    count = Counter()
    app = Dispatcher(answering, DirectRoute("POST", "/direct", raising(Problem(422, "wrong")), count))
    await call(app, extra={BODY_COMPLETE: 12.5})
    assert count.counted == [(422, 12.5)]


@pytest.mark.parametrize("path", ["/direct", "/elsewhere"])
async def test_a_client_that_is_gone_gets_no_answer_and_is_not_counted(path: str) -> None:
    count = Counter()
    gone = raising(ClientGoneError())
    assert await call(Dispatcher(gone, DirectRoute("POST", "/direct", gone, count)), path) == []
    assert count.counted == []


async def test_an_unexpected_error_is_logged_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    await call(Dispatcher(raising(ZeroDivisionError("secret"))), "/v1/model", "GET")
    assert "GET /v1/model failed" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


async def test_an_error_after_the_answer_began_is_raised_for_the_server_to_close_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(Dispatcher(app))


@pytest.mark.parametrize("path", ["/direct", "/elsewhere"])
async def test_a_request_that_is_not_admitted_reaches_no_endpoint_and_is_not_counted(path: str) -> None:
    count = Counter()
    app = Dispatcher(answering, DirectRoute("POST", "/direct", answering, count), Refuses())
    start, _ = await call(app, path)
    assert (start["status"], count.counted) == (401, [])


@pytest.mark.parametrize(("path", "method"), [("/direct", "GET"), ("/direct/", "POST"), ("/other", "POST")])
async def test_only_the_direct_routes_own_method_and_path_go_there(path: str, method: str) -> None:
    app = Dispatcher(answering, DirectRoute("POST", "/direct", raising(Problem(500, "")), Counter()))
    assert (await call(app, path, method))[0]["status"] == 200


@pytest.mark.parametrize("path", ["/direct", "/v2/models/x/infer"])
async def test_problems_conform_to_the_agreed_schema_and_repeat_the_detail_under_v2(path: str) -> None:
    _, body = await call(Dispatcher(raising(Problem(422, "wrong"))), path)
    problem = json.loads(body["body"])
    assert validator("problem").is_valid(problem)
    assert problem.get("error") == ("wrong" if path.startswith("/v2") else None)


async def test_bodies_that_wait_for_their_answers_together_stay_within_a_budget() -> None:
    may_answer = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await may_answer.wait()
        await send_answer(send, b"{}")

    budget = BodyBudget(10)
    dispatcher = Dispatcher(app, budget=budget)
    waiting = [asyncio.create_task(call(dispatcher, body=b"12345")) for _ in range(2)]
    await asyncio.sleep(0)
    start, _ = await call(dispatcher, body=b"1")
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    # What has no body takes no memory.
    bodiless = asyncio.create_task(call(dispatcher))
    may_answer.set()
    for task in (*waiting, bodiless):
        assert (await task)[0]["status"] == 200
    assert (await call(dispatcher, body=b"1234567890"))[0]["status"] == 200


async def test_a_request_that_fails_gives_its_bytes_back() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise Problem(422, "wrong")

    dispatcher = Dispatcher(app, budget=BodyBudget(10))
    assert {(await call(dispatcher, body=b"1234567890"))[0]["status"] for _ in range(3)} == {422}
