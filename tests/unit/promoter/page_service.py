"""The operator's page in a thread of its own, with rollouts that a test moves on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from promoter.page.access import OpenAccess
from promoter.page.app import Access, create_page
from promoter.page.board import Board
from promoter.page.streams import Streams

T = TypeVar("T")


@dataclass
class PageService:
    """The page's address, and what it shows."""

    url: str
    board: Board
    streams: Streams
    _loop: asyncio.AbstractEventLoop

    def do(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call something in the page's event loop, and return what it returned."""

        async def called() -> T:
            return call(*arguments)

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(10)


@contextmanager
def page_service(
    clock: Callable[[], float], *, root: str = "", access: Access | None = None, streams: Streams | None = None
) -> Iterator[PageService]:
    """Serve the page on loopback."""
    ready, found = threading.Event(), []
    stop = asyncio.Event()

    async def serve() -> None:
        board, following = Board(clock, root), streams or Streams(50)
        board.opened = True
        app = create_page(board, access or OpenAccess(), following, clock)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}{root}"
        found.append(PageService(url, board, following, asyncio.get_running_loop()))
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="page")
    thread.start()
    assert ready.wait(10)
    service: PageService = found[0]
    try:
        yield service
    finally:
        service.do(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the page does not end while browsers follow"
