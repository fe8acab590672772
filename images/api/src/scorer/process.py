"""The service as a process: the public port, the management port, and the loading of the model, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Iterator

import aiohttp
import msgspec
import uvicorn
import uvloop

from scorer.app import create_app, create_management_app
from scorer.auth.api_keys import ApiKeys
from scorer.auth.middleware import AccessControl
from scorer.canary.route import read_route, watch_route
from scorer.canary.router import ArmMetrics, Router
from scorer.http.asgi import App
from scorer.http.connection_limits import Guard, Limits
from scorer.metrics import Metrics
from scorer.model.loader import ModelSlot, keep_loading
from scorer.model.registry import Registry
from scorer.settings import Settings

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server that leaves signals to its owner, since two of them share this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: object, settings: Settings, port: int, guard: Guard | None = None) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.host,
            port=port,
            http=guard.protocol() if guard else "httptools",
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        )
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish."""
    slot, metrics = ModelSlot(), Metrics()
    settings = _with_stable_version(settings)
    management = _server(create_management_app(slot, metrics), settings, settings.management_port)

    timeout = aiohttp.ClientTimeout(total=settings.registry_timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        router = Router(session, ArmMetrics(metrics.registry), settings.pod_name)
        guard = Guard(Limits.of(settings), metrics.registry)
        app, keeping = _guarded(create_app(settings, slot, metrics, router), settings, session, metrics)
        public = _server(app, settings, settings.port, guard)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

        async def stopping() -> None:
            await stop.wait()
            slot.draining = True
            await guard.drain(public.server_state, settings.drain_seconds)
            public.should_exit = True

        routing = asyncio.gather(
            watch_route(settings.route_file, settings.route_poll_seconds, router.follow), router.keep_shadowing()
        )
        loading = asyncio.create_task(keep_loading(slot, Registry(session, settings.registry_url), settings))
        guarding = asyncio.gather(guard.keep_sweeping(public.server_state), stopping(), keeping)
        telling = asyncio.create_task(management.serve())
        await public.serve()
        management.should_exit = True
        await telling
        for task in (loading, routing, guarding):
            task.cancel()
        await asyncio.gather(loading, routing, guarding, return_exceptions=True)


def _guarded(
    app: App, settings: Settings, session: aiohttp.ClientSession, metrics: Metrics
) -> tuple[App, Awaitable[None]]:
    """Return the application behind its access control, and what keeps that one up to date."""
    if settings.access_mode == "apiKeys":
        keys = ApiKeys(settings.access_dir)
        return AccessControl(app, keys, metrics.registry), keys.keep_reading(settings.access_poll_seconds)
    if settings.access_mode == "oidc":
        # Imported here, because its cryptography costs memory that only this mode should pay.
        from scorer.auth.oidc import Issuer, OpenIdTokens  # noqa: PLC0415

        tokens = OpenIdTokens(session, Issuer.of(settings))
        return AccessControl(app, tokens, metrics.registry), tokens.keep_refreshing(settings.oidc_refresh_seconds)
    return app, asyncio.sleep(0)


def _with_stable_version(settings: Settings) -> Settings:
    """Let a pod that has no version of its own take the route's stable one: the alias may point at a bad one."""
    try:
        route = None if settings.model_version else read_route(settings.route_file)
    except (msgspec.DecodeError, OSError) as error:
        log.warning("the route in %s is not taken: %s", settings.route_file, error)
        return settings
    return settings.model_copy(update={"model_version": route.stable.version}) if route and route.stable else settings


def main() -> None:
    """Read the settings and serve."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvloop.run(serve(Settings()))
