"""The page over HTTP: who may see it, what every answer forbids, and events that are rendered once for all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from promoter.page.access import KeyAccess, OpenAccess
from promoter.page.app import Access, create_page
from promoter.page.board import Board
from promoter.page.html import Html, text
from promoter.page.streams import Streams, Topic, encoded
from unit.promoter.page_rollouts import HOSTILE, Clock, move, progressing, promotion, resting

KEY = "k-1"


@dataclass
class Page:
    """The page, and a client of it."""

    session: aiohttp.ClientSession
    board: Board
    streams: Streams
    port: int
    peers: Callable[[], list[tuple[str, int]]]


@asynccontextmanager
async def page(
    *, access: Access | None = None, streams: Streams | None = None, root: str = "/promotions", opened: bool = True
) -> AsyncIterator[Page]:
    clock, following = Clock(), streams or Streams(50)
    board = Board(clock, root)
    board.opened = opened
    app = create_page(board, access or OpenAccess(), following, clock)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=aiohttp.DummyCookieJar()) as session:
        server = runner.server
        assert server
        yield Page(session, board, following, port, lambda: [
            found.transport.get_extra_info("peername") for found in server.connections if found.transport])  # fmt: skip
    await runner.cleanup()


async def next_event(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the fields of the next event, without heartbeats."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(5):
        async for raw in response.content:
            line = raw.decode().rstrip("\n")
            if not line and fields:
                return fields
            name, colon, value = line.partition(": ")
            if name and colon:
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    return fields


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0.01)


async def test_the_list_and_each_promotion_have_a_page_without_any_script() -> None:
    async with page() as served:
        served.board.show(promotion("loans", progressing()))
        async with served.session.get("/promotions") as response:
            shown = await response.text()
            assert (response.status, response.url.path) == (200, "/promotions/")
        assert '<a href="/promotions/credit-risk/loans">credit-risk/loans</a>' in shown
        assert "1 ModelPromotion, 1 being rolled out" in shown
        async with served.session.get("/promotions/credit-risk/loans") as response:
            shown = await response.text()
        assert "25 % of the applicants are answered by the canary" in shown
        assert '<script src="/promotions/-/page.js" defer></script>' in shown


async def test_every_answer_forbids_inline_code_other_hosts_frames_and_caches() -> None:
    async with page() as served:
        for path in ("/promotions/", "/promotions/-/events", "/promotions/-/page.js", "/promotions/a/b", "/elsewhere"):
            async with served.session.get(path) as response:
                policy = response.headers["Content-Security-Policy"]
                assert "unsafe" not in policy
                assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';")
                assert "frame-ancestors 'none'" in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] in {"no-store", "no-cache"}
                assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_the_page_only_reads(method: str) -> None:
    async with page() as served:
        for path in ("/promotions/", "/promotions/credit-risk/loans"):
            async with served.session.request(method, path) as response:
                assert response.status == 405


async def test_names_in_the_path_are_not_echoed_as_markup() -> None:
    async with page() as served:
        for path in ("/promotions/a/%3Cscript%3E", f"/promotions/{'x' * 500}/y", "/promotions/..%2f..%2fetc/passwd"):
            async with served.session.get(path) as response:
                assert response.status == 404
                assert "<script>" not in await response.text()


async def test_files_are_not_sent_again_if_the_browser_has_them() -> None:
    async with page() as served, served.session.get("/promotions/-/page.css") as response:
        assert response.content_type == "text/css"
        known = {"If-None-Match": response.headers["ETag"]}
        async with served.session.get("/promotions/-/page.css", headers=known) as again:
            assert again.status == 304


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "on-call").write_text(f"# of the team\n{hashlib.sha256(KEY.encode()).hexdigest()} # laptop\n")
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text(hashlib.sha256(b"hidden").hexdigest())
    return tmp_path


def basic(key: str, name: str = "anyone") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{key}'.encode()).decode()}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (basic(KEY), 200),
        (basic(KEY, ""), 200),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"X-API-Key": KEY}, 200),
        (basic("hidden"), 401),
        (basic(""), 401),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": f"Digest {KEY}"}, 401),
        ({"X-API-Key": hashlib.sha256(KEY.encode()).hexdigest()}, 401),
    ],
)
async def test_a_browser_and_a_program_get_in_with_a_key(keys: Path, headers: dict[str, str], status: int) -> None:
    async with page(access=KeyAccess(keys)) as served:
        served.board.show(promotion("loans", resting()))
        for path in ("/promotions/", "/promotions/credit-risk/loans", "/promotions/-/events", "/promotions/-/page.js"):
            async with served.session.get(path, headers=headers) as response:
                assert response.status == status
                if status == 401:
                    challenges = response.headers.getall("WWW-Authenticate")
                    assert [challenge.split()[0] for challenge in challenges] == ["Basic", "Bearer"]
                    assert "loans" not in await response.text()


async def test_without_keys_nobody_gets_in(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        access = KeyAccess(folder)
        assert not access.admits({})
        assert not access.admits(basic(""))
        assert not access.admits(basic(KEY))


async def test_a_revoked_key_ends_what_it_follows(keys: Path) -> None:
    streams = Streams(50, heartbeat_seconds=0.02)
    async with page(access=KeyAccess(keys), streams=streams) as served:
        async with served.session.get("/promotions/-/events", headers=basic(KEY)) as response:
            await next_event(response)
            (keys / "on-call").unlink()
            async with asyncio.timeout(5):
                while await response.content.readline():
                    pass
        assert streams.clients == 0


async def test_an_operator_that_stands_by_says_so() -> None:
    async with page(opened=False) as served, served.session.get("/promotions/") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert "stands by" in await response.text()


async def test_a_change_arrives_once_rendered_for_all_who_follow() -> None:
    async with page() as served:
        shown = promotion("loans", progressing())
        served.board.show(shown)
        topic = served.board.topic("credit-risk", "loans")
        assert topic
        draw, rendered = topic.picture, []

        def counted() -> Html:
            rendered.append(draw())
            return rendered[-1]

        topic.picture = counted
        path = "/promotions/credit-risk/loans/events"
        responses = [await served.session.get(path) for _ in range(10)]
        first = [await next_event(response) for response in responses]
        assert len({event["id"] for event in first}) == 1
        assert len(rendered) == 1
        await until(lambda: topic.followers == 10)
        for weight in (30, 40, 50):
            move(served.board, shown, progressing(weight=weight))
        second = [await next_event(response) for response in responses]
        assert len(rendered) == 2, "changes at almost the same time are one event"
        assert all("50 % of the applicants" in event["data"] for event in second)
        assert {event["id"] for event in second}.isdisjoint(event["id"] for event in first)
        for response in responses:
            response.close()
        await until(lambda: served.streams.clients == 0)


async def test_nothing_is_rendered_while_nobody_follows() -> None:
    async with page() as served:
        shown = promotion("loans", progressing())
        served.board.show(shown)
        topic = served.board.topic("credit-risk", "loans")
        assert topic
        before = topic.number
        topic.picture = lambda: pytest.fail("rendered for nobody")
        move(served.board, shown, progressing(weight=30))
        await until(lambda: topic.number != before)


async def test_a_browser_that_connects_again_gets_the_newest_state_unless_it_has_it() -> None:
    async with page(streams=Streams(50, heartbeat_seconds=0.02)) as served:
        path = "/promotions/-/events"
        async with served.session.get(path) as response:
            number = (await next_event(response))["id"]
        async with served.session.get(path, headers={"Last-Event-ID": number}) as response:
            assert await response.content.readline() == b": still here\n"
            served.board.show(promotion("loans", resting()))
            event = await next_event(response)
            assert "credit-risk/loans" in event["data"]
        async with served.session.get(path, headers={"Last-Event-ID": "of-another-operator"}) as response:
            assert (await next_event(response))["id"] == event["id"]


async def test_one_browser_too_many_is_asked_to_come_back() -> None:
    async with page(streams=Streams(2)) as served:
        path = "/promotions/-/events"
        async with served.session.get(path) as first, served.session.get(path) as second:
            assert (first.status, second.status) == (200, 200)
            async with served.session.get(path) as third:
                assert (third.status, third.headers["Retry-After"]) == (503, "10")
            async with served.session.get("/promotions/") as whole:
                assert whole.status == 200, "the page works without following"
        await until(lambda: served.streams.clients == 0)
        async with served.session.get(path) as again:
            assert again.status == 200


async def test_a_browser_that_does_not_read_is_dropped_and_does_not_hold_up_others() -> None:
    streams = Streams(2, heartbeat_seconds=60, slow_seconds=0.2)
    async with page(streams=streams) as served:
        served.board.index.picture = lambda: text("x" * 20_000_000)
        with socket.create_connection(("127.0.0.1", served.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /promotions/-/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: streams.clients == 1)
            assert slow.getsockname() in served.peers()
            async with served.session.get("/promotions/a/b") as other:
                assert other.status == 404
            await until(lambda: streams.clients == 0)
            await until(lambda: slow.getsockname() not in served.peers())


async def test_who_follows_a_promotion_learns_that_it_was_deleted() -> None:
    async with page() as served:
        shown = promotion("loans", resting())
        served.board.show(shown)
        path = "/promotions/credit-risk/loans/events"
        async with served.session.get(path) as response:
            await next_event(response)
            served.board.forget(shown.owner)
            assert await next_event(response) == {"event": "gone"}
            assert await response.content.read() == b""
        async with served.session.get(path) as response:
            assert await next_event(response) == {"event": "gone"}


async def test_the_operator_ends_although_browsers_follow() -> None:
    async with asyncio.timeout(4):
        async with page() as served:
            response = await served.session.get("/promotions/-/events")
            await next_event(response)


async def test_an_event_cannot_be_forged_by_what_it_shows() -> None:
    body = encoded("1", "a\n\nevent: gone\r\n\rb").decode()
    assert body == "id: 1\ndata: a\ndata: \ndata: event: gone\ndata: b\n\n"
    topic = Topic(lambda: text(HOSTILE))
    assert topic.newest() is topic.newest()
