"""The page's paths: the list, a picture per ModelPromotion, the events of both, and three files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from promoter.page.access import CHALLENGES
from promoter.page.document import document
from promoter.page.html import element, join
from promoter.page.streams import EVENTS, GONE, Streams, Topic

_STATIC = Path(__file__).parent / "static"
_FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_HEADERS = {
    # Only this host's own files and events; nothing inline, no forms, no framing.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Pictures(Protocol):
    """What there is to show; `promoter.page.board` keeps it."""

    @property
    def root(self) -> str:
        """Return the path of the pages, without a slash at the end."""

    @property
    def opened(self) -> bool:
        """Return whether the operator watches, and does not stand by."""

    @property
    def index(self) -> Topic:
        """Return the topic of the list."""

    def topic(self, namespace: str, name: str) -> Topic | None:
        """Return the topic of a promotion, None if there is no such promotion."""

    def close(self) -> None:
        """Let all who follow go."""


class Access(Protocol):
    """Decides who may see the page."""

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request with these headers may see it."""


def create_page(board: Pictures, access: Access, streams: Streams, clock: Callable[[], float]) -> web.Application:
    """Return the application; it only reads."""
    root = board.root
    app = web.Application(middlewares=[_guard(board, access)])

    async def index(_: web.Request) -> web.Response:
        main, now = board.index.picture(), clock()
        title = element("h1", "Model promotions")
        return _page(document("Model promotions", title, main, now, root=root, events=f"{root}/-/events"))

    async def promotion(request: web.Request) -> web.Response:
        namespace, name = _named(request)
        topic = board.topic(namespace, name)
        if topic is None:
            return _missing(root)
        main, now = topic.picture(), clock()
        back = element("nav", element("a", "All model promotions", href=f"{root}/"), aria_label="Pages")
        heading = join(back, element("h1", f"{namespace}/{name}"))
        events = f"{root}/{namespace}/{name}/events"
        return _page(document(f"{namespace}/{name}", heading, main, now, root=root, events=events))

    async def index_events(request: web.Request) -> web.StreamResponse:
        return await send(request, board.index)

    async def events(request: web.Request) -> web.StreamResponse:
        topic = board.topic(*_named(request))
        return web.Response(body=GONE, headers=EVENTS) if topic is None else await send(request, topic)

    async def send(request: web.Request, topic: Topic) -> web.StreamResponse:
        return await streams.send(request, topic, lambda: access.admits(request.headers))

    async def close(_: web.Application) -> None:
        board.close()

    app.router.add_get(f"{root}/", index)
    app.router.add_get(f"{root}/-/events", index_events, allow_head=False)
    for name, kind in _FILES.items():
        app.router.add_get(f"{root}/-/{name}", _serving(_STATIC / name, kind))
    app.router.add_get(f"{root}/{{namespace}}/{{name}}", promotion)
    app.router.add_get(f"{root}/{{namespace}}/{{name}}/events", events, allow_head=False)
    if root:
        app.router.add_get(root, _redirect(f"{root}/"))
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(close)
    return app


def _guard(board: Pictures, access: Access) -> Middleware:
    """Return what answers those who may not see the page, and all while there is nothing to show."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not access.admits(request.headers):
            refusal = _error(401, "This page asks for an API key: enter any name, and the key as the password.")
            for challenge in CHALLENGES:
                refusal.headers.add("WWW-Authenticate", challenge)
            return refusal
        if not board.opened:
            refusal = _error(503, "This operator stands by, or has just started: another one may lead.")
            refusal.headers["Retry-After"] = "5"
            return refusal
        return await handler(request)

    return guard


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Give an answer the headers that all have."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _named(request: web.Request) -> tuple[str, str]:
    return request.match_info["namespace"], request.match_info["name"]


def _page(markup: str) -> web.Response:
    return web.Response(text=markup, content_type="text/html")


def _missing(root: str) -> web.Response:
    return _error(404, "There is no such ModelPromotion in the watched namespaces. ",
                  element("a", "All model promotions", href=f"{root}/"))  # fmt: skip


def _error(status: int, *content: str) -> web.Response:
    body = element("body", element("h1", str(status)), element("p", *content))
    head = element("head", element("meta", charset="utf-8"), element("title", str(status)))
    return web.Response(status=status, text=f"<!doctype html>\n{element('html', head, body, lang='en')}\n",
                        content_type="text/html")  # fmt: skip


def _serving(file: Path, kind: str) -> Handler:
    content = file.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    async def serve(request: web.Request) -> web.Response:
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    return serve


def _redirect(to: str) -> Handler:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": to})

    return redirect
