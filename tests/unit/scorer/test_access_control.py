"""Access control: who is admitted, what is open to all, and how clients are counted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from scorer.app import OPEN_PATHS
from scorer.auth import access_control
from scorer.auth.access_control import AccessControl
from scorer.auth.api_keys import ApiKeys
from scorer.auth.authenticator import Authenticator
from scorer.http.asgi import Receive, Scope, Send, send_answer
from scorer.http.dispatcher import Dispatcher
from scorer.request_context import credentials
from unit.scorer.access_keys import hashed, write_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_keys(tmp_path)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await send_answer(send, repr(credentials.get({})).encode())


@contextlib.asynccontextmanager
async def client(authenticator: Authenticator, registry: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(
        Dispatcher(application, admission=AccessControl(authenticator, OPEN_PATHS, registry))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer k-lender"}, {"authorization": "bearer  k-lender"}, {"X-API-Key": "k-lender"}]
)
async def test_a_known_key_is_admitted_and_counted_under_its_clients_name(
    folder: Path, headers: dict[str, str]
) -> None:
    registry = CollectorRegistry()
    async with client(ApiKeys(folder), registry) as http:
        found = await http.post("/v1/score", headers=headers)
    assert found.status_code == 200
    assert registry.get_sample_value("scorer_client_requests_total", {"client": "lender", "status": "200"}) == 1


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, ""),
        ({"Authorization": "Basic azpr"}, "invalid_request"),
        ({"Authorization": "Bearer "}, "invalid_request"),
        ({"Authorization": "Bearer k-lendes"}, "invalid_token"),
        ({"Authorization": f"Bearer {hashed('k-lender')}"}, "invalid_token"),
        ({"X-API-Key": "\xff\xfe".encode("latin-1").decode("latin-1")}, "invalid_token"),
        ({"X-API-Key": "k" * 10_000}, "invalid_token"),
    ],
)
async def test_without_a_valid_key_the_answer_says_how_to_authenticate(
    folder: Path, headers: dict[str, str], error: str
) -> None:
    registry = CollectorRegistry()
    async with client(ApiKeys(folder), registry) as http:
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        found = await http.post("/v1/score", headers=sent)
    assert found.status_code == 401
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["www-authenticate"].startswith("Bearer realm=")
    assert (f'error="{error}"' in found.headers["www-authenticate"]) == bool(error)
    assert registry.get_sample_value("scorer_access_denied_total", {"status": "401"}) == 1


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/page.js", "/ping", "/v2/health/ready"])
async def test_pages_without_data_need_no_key(folder: Path, path: str) -> None:
    async with client(ApiKeys(folder), CollectorRegistry()) as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/model", "/v1/score", "/invocations", "/v2/models/x/infer", "/docs/../v1"])
async def test_everything_else_needs_a_key(folder: Path, path: str) -> None:
    async with client(ApiKeys(folder), CollectorRegistry()) as http:
        assert (await http.get(path)).status_code == 401


async def test_the_credential_headers_are_kept_for_the_canary(folder: Path) -> None:
    async with client(ApiKeys(folder), CollectorRegistry()) as http:
        found = await http.get("/v1/model", headers={"X-API-Key": "k-lender"})
    assert found.text == repr({"x-api-key": "k-lender"})


async def test_the_number_of_client_labels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_control, "MAX_CLIENTS", 2)

    class AcceptsEveryone:
        async def identify(self, credential: str) -> str:
            return credential

    registry = CollectorRegistry()
    async with client(AcceptsEveryone(), registry) as http:
        for name in ("a", "b", "c", "d", "a"):
            await http.get("/v1/model", headers={"X-API-Key": name})
    found = {name: registry.get_sample_value("scorer_client_requests_total", {"client": name, "status": "200"})
             for name in ("a", "b", "c", "other")}  # fmt: skip
    assert found == {"a": 2, "b": 1, "c": None, "other": 2}
