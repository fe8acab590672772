"""Run the service: the public port, the management port, and the loading of the model, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator

import aiohttp
import uvicorn
import uvloop

from scorer.app import create_app, create_management_app
from scorer.loader import ModelSlot, keep_loading
from scorer.metrics import Metrics
from scorer.registry import Registry
from scorer.settings import Settings


class _Server(uvicorn.Server):
    """A server that leaves signals to its owner, since two of them share this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: object, settings: Settings, port: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.host,
            port=port,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        )
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish."""
    slot, metrics = ModelSlot(), Metrics()
    public = _server(create_app(settings, slot, metrics), settings, settings.port)
    management = _server(create_management_app(slot, metrics), settings, settings.management_port)

    def stop() -> None:
        slot.draining = True
        public.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    timeout = aiohttp.ClientTimeout(total=settings.registry_timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        loading = asyncio.create_task(keep_loading(slot, Registry(session, settings.registry_url), settings))
        telling = asyncio.create_task(management.serve())
        await public.serve()
        management.should_exit = True
        await telling
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


def main() -> None:
    """Read the settings and serve."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvloop.run(serve(Settings()))


if __name__ == "__main__":
    main()
