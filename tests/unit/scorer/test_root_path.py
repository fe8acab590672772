"""Under an ingress's path prefix, over real sockets: every link stays under it, and keeps the client's scheme."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pydantic
import pytest
import pytest_asyncio
from aiohttp import web

from processes import free_port
from scorer.endpoints.pages import PAGES
from scorer.settings import Settings
from unit.scorer.access_keys import write_keys
from unit.scorer.service_process import Service, service

PREFIX = "/lending/scoring"
# What the client sees: TLS ends at the proxy, so the service knows neither the scheme nor the host.
PUBLIC = f"https://score.example.org{PREFIX}"
KEY = {"X-API-Key": "k-lender"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    keys, work = write_keys(tmp_path_factory.mktemp("keys")), tmp_path_factory.mktemp("service")
    async with service(model_folder, work, root_path=PREFIX, access_mode="apiKeys", access_dir=keys) as found:
        yield found


async def reverse_proxy(target: str, *, strips: bool) -> tuple[web.AppRunner, str]:
    """Start a proxy that publishes the service under the prefix, and takes it off or passes it on."""
    session = aiohttp.ClientSession(auto_decompress=False)

    async def forward(request: web.Request) -> web.Response:
        path = request.rel_url.raw_path.removeprefix(PREFIX) if strips else request.rel_url.raw_path
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with session.request(
            request.method, f"{target}{path}?{request.query_string}", data=await request.read(), headers=headers,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            kept = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)

    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", forward)
    app.on_cleanup.append(lambda _: session.close())
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{port}"


@pytest.fixture(params=[False, True], ids=["passes-the-prefix-on", "takes-it-off"])
async def proxy(running: Service, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    runner, url = await reverse_proxy(running.url, strips=request.param)
    yield url
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_scoring_works_through_both_kinds_of_proxy(
    proxy: str, http: aiohttp.ClientSession, model_folder: Path
) -> None:
    contract = json.loads((model_folder / "contract.json").read_bytes())
    applicant = contract["reference_applicant"]
    for path, body in [("/v1/score?reasons=2", applicant), ("/v1/score/batch", [applicant]),
                       ("/invocations", {"dataframe_records": [applicant]})]:  # fmt: skip
        async with http.post(f"{proxy}{PREFIX}{path}", json=body, headers=KEY) as answer:
            assert answer.status == 200, await answer.text()
        # Access control is not passed by either.
        async with http.post(f"{proxy}{PREFIX}{path}", json=body) as answer:
            assert answer.status == 401


async def test_every_link_of_a_page_leads_to_a_page_under_the_prefix(proxy: str, http: aiohttp.ClientSession) -> None:
    for page in ("/", "/docs"):
        base = f"{PUBLIC}{page}"
        async with http.get(f"{proxy}{PREFIX}{page}") as answer:
            links = re.findall(r'(?:href|src)="([^"#]+)"', await answer.text())
        assert links
        for link in links:
            assert urljoin(base, link).removeprefix(PUBLIC) in PAGES, link
            async with http.get(proxy + urljoin(base, link).removeprefix("https://score.example.org")) as answer:
                assert answer.status == 200


@pytest.mark.parametrize(("path", "target"), [("", "/"), ("?a=b", "/?a=b"), ("/v1/model/", "/v1/model")])
async def test_redirects_keep_https_the_host_and_the_prefix(
    running: Service, http: aiohttp.ClientSession, path: str, target: str
) -> None:
    for method in ("GET", "HEAD"):
        async with http.request(
            method, f"{running.url}{PREFIX}{path}", allow_redirects=False, headers=KEY
        ) as answer:  # fmt: skip
            assert answer.status == 307
            assert urljoin(f"{PUBLIC}{path}", answer.headers["Location"]) == f"{PUBLIC}{target}"


async def test_the_openapi_document_names_the_prefix_and_no_scheme(proxy: str, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{proxy}{PREFIX}/openapi.json") as answer:
        document = await answer.json()
    assert document["servers"] == [{"url": PREFIX}]
    for path, item in document["paths"].items():
        if "get" in item and "{" not in path:
            async with http.get(f"{proxy}{PREFIX}{path}", headers=KEY) as answer:
                assert answer.status == 200, path


async def test_other_pods_need_not_know_the_prefix(running: Service, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{running.url}/v1/model", headers=KEY) as answer:
        assert answer.status == 200
    async with http.get(f"{running.management_url}/v1/model") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", [f"{PREFIX}x/v1/model", f"{PREFIX}{PREFIX}/v1/model", "/lending/v1/model"])
async def test_paths_that_only_look_like_the_prefix_do_not_exist(
    running: Service, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.get(f"{running.url}{path}", headers=KEY) as answer:
        assert answer.status == 404


async def test_a_request_for_the_bare_prefix_is_one_for_the_page(running: Service, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{running.url}{PREFIX}", headers=KEY) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("prefix", ["scoring", "/a b", "/a?b", "//", "/a//b", "/v1", "/v2/x", "/docs", "https://a/b"])
def test_a_wrong_prefix_is_refused_at_start(prefix: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="root_path"):
        Settings(root_path=prefix)


@pytest.mark.parametrize(("given", "read"), [("", ""), ("/", ""), ("/scoring/", "/scoring"), ("/v10/a.b", "/v10/a.b")])
def test_a_slash_at_the_end_of_the_prefix_is_left_out(given: str, read: str) -> None:
    assert Settings(root_path=given).root_path == read
