"""`python -m decisions serve`: the public port and the management port in one event loop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from decisions.service.app import create_app, create_management_app, create_service
from decisions.settings import ServeSettings

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process, because two of them share it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT, then let running requests finish."""
    argparse.ArgumentParser(prog="python -m decisions serve", description=main.__doc__).parse_args(arguments)
    asyncio.run(_serve(ServeSettings()))
    return 0


async def _serve(settings: ServeSettings) -> None:
    service = create_service(settings)
    app, end_traces = _traced(create_app(service), settings)
    public = _server(app, settings, settings.port)
    management = _server(create_management_app(service), settings, settings.management_port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await service.database.open()
    if service.access.tokens:
        await service.access.tokens.open()
    try:
        running = [asyncio.create_task(server.serve()) for server in (public, management)]
        waiting = asyncio.create_task(stop.wait())
        # A server that ends by itself, such as one whose port is taken, ends the process.
        await asyncio.wait([*running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        public.should_exit = True
        await running[0]
        management.should_exit = True
        await running[1]
    finally:
        await service.close()
        await end_traces()


def _traced(app: ASGIApp, settings: ServeSettings) -> tuple[ASGIApp, Callable[[], Awaitable[None]]]:
    """Return the application, with spans if they are exported, and what sends the last ones."""
    if not settings.tracing_endpoint:
        return app, _nothing
    # Imported here, because without an endpoint nothing of it should be loaded.
    try:
        from decisions.service.tracing import Tracing  # noqa: PLC0415
    except ImportError as error:
        sys.exit(f"DECISIONS_TRACING_ENDPOINT is set, but the packages of the extra `tracing` are incomplete: {error}")
    tracing = Tracing.of(settings)
    return tracing.requests(app), tracing.close


async def _nothing() -> None:
    pass


def _server(app: object, settings: ServeSettings, port: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.host,
            port=port,
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            limit_concurrency=256,
            timeout_graceful_shutdown=settings.shutdown_seconds,
        )
    )
