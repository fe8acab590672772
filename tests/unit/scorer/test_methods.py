"""What all paths have in common: HEAD, OPTIONS, Allow, and redirects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from scorer.app import create_app, create_management_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.fuzz.wire import Connection, Request
from unit.scorer.service_process import service

READ = ["/", "/docs", "/page.js", "/openapi.json", "/v1/model", "/ping", "/version", "/v2", "/v2/health/live",
        "/v2/health/ready", "/v2/models/credit-risk", "/v2/models/credit-risk/versions/7",
        "/v2/models/credit-risk/ready", "/v2/models/credit-risk/versions/7/ready"]  # fmt: skip
SENT = ["/v1/score", "/v1/score/batch", "/invocations", "/v2/models/credit-risk/infer",
        "/v2/models/credit-risk/versions/7/infer"]  # fmt: skip


@pytest.fixture(scope="module")
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture
async def client(slot: ModelSlot) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(), slot, Metrics()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


def test_every_path_is_here(slot: ModelSlot) -> None:
    paths = create_app(Settings(), slot, Metrics())._app.routes  # type: ignore[attr-defined]
    known = {path.replace("credit-risk", "{name}").replace("/7", "/{version}") for path in (*READ, *SENT)}
    pages = {"/page.css", "/favicon.svg", "/docs/init.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"}
    assert {route.path for route in paths} == known | pages


@pytest.mark.parametrize("path", READ)
async def test_whatever_can_be_got_has_a_head(client: httpx.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert head.status_code == got.status_code == 200
    kept = {name: value for name, value in got.headers.items() if name != "date"}
    assert {name: value for name, value in head.headers.items() if name != "date"} == kept


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/model"])
async def test_probes_and_metrics_have_one_too(slot: ModelSlot, path: str) -> None:
    transport = httpx.ASGITransport(create_management_app(slot, Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://management") as http:
        assert (await http.head(path)).status_code == 200
        assert (await http.post(path)).headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", READ)
async def test_other_methods_of_what_can_be_got_are_refused(client: httpx.AsyncClient, path: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE"):
        refused = await client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", SENT)
async def test_other_methods_of_what_takes_a_body_are_refused(client: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE"):
        refused = await client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")


async def test_options_name_the_methods_and_what_a_body_may_be_encoded_with(client: httpx.AsyncClient) -> None:
    for path in READ:
        answer = await client.options(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert "accept-encoding" not in answer.headers
    for path in SENT:
        answer = await client.options(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["allow"] == "OPTIONS, POST"
        assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


async def test_what_does_not_exist_has_no_methods(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        refused = await client.request(method, "/nowhere")
        assert refused.status_code == 404
        assert "allow" not in refused.headers


@pytest.mark.parametrize("path", ["/docs/", "/v1/model/", "/v1/score/"])
@pytest.mark.parametrize("query", ["", "?reasons=4&x=%0d%0a"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("base", ["https://public/some/prefix", "http://scoring"])
async def test_a_slash_too_much_is_redirected_relative_to_where_the_client_is(
    client: httpx.AsyncClient, path: str, query: str, method: str, base: str
) -> None:
    answer = await client.request(method, f"{path}{query}")
    assert answer.status_code == 307
    assert urljoin(f"{base}{path}{query}", answer.headers["location"]) == f"{base}{path[:-1]}{query}"


@pytest.mark.parametrize("path", ["//other.example//", "/nowhere/", "/docs//", "/v2/models/", "/%2e%2e/"])
async def test_other_paths_with_a_slash_at_their_end_do_not_exist(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"http://scoring{path}")
    assert (answer.status_code, "location" in answer.headers) == (404, False)


async def test_a_name_in_a_redirect_stays_within_its_segment(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v2/models/a%3Fb%23c%25:d\u00e9/")
    assert (answer.status_code, answer.headers["location"]) == (307, "../a%3Fb%23c%25%3Ad%C3%A9")


async def test_heads_and_options_leave_a_connection_as_it_was(model_folder: Path, tmp_path: Path) -> None:
    async with service(model_folder, tmp_path) as running:
        connection = await Connection.open(int(running.url.rpartition(":")[2]))
        for _ in range(2):
            for path in READ:
                head = await connection.ask(Request("HEAD", path))
                got = await connection.ask(Request("GET", path))
                assert (head.status, head.headers) == (got.status, got.headers)
            # 204: without a body, and without a length.
            answer = await connection.ask(Request("OPTIONS", "/v1/model"))
            assert (answer.status, answer.body) == (204, b"")
            assert (await connection.ask(Request("OPTIONS", "*"))).headers["allow"] == "GET, HEAD, OPTIONS, POST"
            assert (await connection.ask(Request("HEAD", "/nowhere"))).status == 404
            assert (await connection.ask(Request("GET", "/v1/model/"))).headers["location"] == "../model"
        connection.close()
