"""Requests from web pages of other origins: refused by browsers unless the settings allow their origin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pydantic
import pytest
from prometheus_client import CollectorRegistry

from scorer.app import OPEN_PATHS, create_app
from scorer.auth.access_control import AccessControl
from scorer.auth.api_keys import ApiKeys
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.access_keys import write_keys

ALLOWED, OTHER = "https://app.example.org", "https://app.example.org.evil"
PATHS = ["/v1/score", "/v1/score/batch", "/invocations", "/v2/models/credit-risk/infer", "/v1/model"]
Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture
def client(slot: ModelSlot, tmp_path: Path) -> Client:
    """Return clients of a service that needs API keys, and allows origins."""

    @contextlib.asynccontextmanager
    async def started(*origins: str) -> AsyncIterator[httpx.AsyncClient]:
        access = AccessControl(ApiKeys(write_keys(tmp_path)), OPEN_PATHS, CollectorRegistry())
        app = create_app(Settings(cors_allowed_origins=origins), slot, Metrics(), admission=access)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
            yield http

    return started


def preflight(origin: str, headers: str = "authorization, content-type") -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}


def cors_headers(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


@pytest.mark.parametrize("path", PATHS)
async def test_no_origin_is_allowed_unless_the_settings_name_it(client: Client, path: str) -> None:
    async with client() as http:
        # A preflight request has no key, so it gets no further than others without one.
        assert (await http.options(path, headers=preflight(ALLOWED))).status_code == 401
        answers = [
            await http.options(path, headers={**preflight(ALLOWED), "X-API-Key": "k-lender"}),
            await http.post(path, headers={"Origin": ALLOWED, "X-API-Key": "k-lender"}),
        ]
    assert [cors_headers(answer) for answer in answers] == [set(), set()]


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_of_an_allowed_origin_needs_no_key(client: Client, path: str) -> None:
    async with client("https://other.example.org", ALLOWED) as http:
        answer = await http.options(path, headers=preflight(ALLOWED, "x-api-key, content-encoding, x-request-id"))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert {"GET", "HEAD", "POST"} == set(answer.headers["access-control-allow-methods"].split(", "))
    assert {"Authorization", "X-API-Key"} <= set(answer.headers["access-control-allow-headers"].split(", "))
    # No cookies: a page must name its key itself.
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        (preflight(OTHER), "Disallowed CORS origin"),
        (preflight("null"), "Disallowed CORS origin"),
        (preflight(ALLOWED) | {"Access-Control-Request-Method": "DELETE"}, "Disallowed CORS method"),
        (preflight(ALLOWED, "x-other"), "Disallowed CORS headers"),
    ],
)
async def test_other_preflights_are_problems(client: Client, headers: dict[str, str], detail: str) -> None:
    async with client(ALLOWED) as http:
        answer = await http.options("/v1/score", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["detail"] == detail
    assert answer.headers.get("access-control-allow-origin", ALLOWED) == ALLOWED


async def test_pages_of_an_allowed_origin_can_read_answers_and_refusals(client: Client) -> None:
    own = {"Origin": ALLOWED, "Content-Type": "application/json"}
    async with client(ALLOWED) as http:
        answers = [
            (await http.post("/v1/score", headers=own), 401),
            (await http.post("/v1/score", content=b"{", headers={**own, "X-API-Key": "k-lender"}), 400),
            (await http.get("/v1/model", headers={**own, "X-API-Key": "k-lender"}), 200),
            (await http.get("/nowhere", headers={**own, "X-API-Key": "k-lender"}), 404),
        ]
        others = await http.get("/v1/model", headers={"Origin": OTHER, "X-API-Key": "k-lender"})
    for answer, status in answers:
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ALLOWED
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    # Answered, because it has a key; but browsers do not let the page read it.
    assert others.status_code == 200
    assert "access-control-allow-origin" not in others.headers
    assert others.headers["vary"] == "Origin"


async def test_a_key_is_needed_whatever_the_origin(client: Client) -> None:
    async with client("*") as http:
        answer = await http.get("/v1/model", headers={"Origin": OTHER})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
        # OPTIONS that is no preflight is a request like any other.
        assert (await http.options("/v1/model", headers={"Origin": OTHER})).status_code == 401
        assert (await http.options("/v1/model", headers=preflight(OTHER))).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "origin", ["app.example.org", "https://", "https://app.example.org/", "https://a.org/path", "", "https://a b", "**"]
)
def test_what_is_no_origin_is_refused_at_start(origin: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="cors_allowed_origins"):
        Settings(cors_allowed_origins=(origin,))


def test_origins_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_CORS_ALLOWED_ORIGINS", f'["{ALLOWED}", "http://localhost:3000"]')
    assert Settings().cors_allowed_origins == (ALLOWED, "http://localhost:3000")
