"""The service as a process: public port, management port, and everything that runs beside them, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import aiohttp
import msgspec
import uvicorn
import uvloop

from scorer.app import OPEN_PATHS, Parts, create_app, create_management_app
from scorer.auth.access_control import AccessControl
from scorer.auth.api_keys import ApiKeys
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.client import CanaryClient
from scorer.canary.pair_metrics import PairMetrics
from scorer.canary.pairing import Pairing
from scorer.canary.route import read_route, watch_route
from scorer.canary.router import Router
from scorer.decision_log.log import DecisionLog, Mode
from scorer.decision_log.metrics import LogMetrics
from scorer.decision_log.writer import SegmentWriter
from scorer.http.connection_limits import ConnectionLimits, Limits
from scorer.http.limited_protocol import limited_protocol
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot
from scorer.model.loader import keep_loading
from scorer.model.registry import Registry
from scorer.settings import Settings

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process, because two of them share it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: object, settings: Settings, port: int, limits: ConnectionLimits | None = None) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.host,
            port=port,
            http=limited_protocol(limits) if limits else "httptools",
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


async def _nothing() -> None:
    pass


@dataclass(frozen=True)
class _Traces:
    """The parts that tracing has its own of, as they are without it, and what ends it."""

    parts: Parts | None = None
    canary_client: Callable[[aiohttp.ClientSession, str], CanaryClient] = CanaryClient
    decision_log: Callable[[SegmentWriter, Mode, LogMetrics], DecisionLog] = DecisionLog
    close: Callable[[], Awaitable[None]] = _nothing


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish."""
    slot, metrics = ModelSlot(), Metrics()
    settings = _with_stable_version(settings)
    traces = _traces(settings, metrics)
    decisions = _decision_log(settings, metrics, traces)
    management = _server(create_management_app(slot, metrics, decisions), settings, settings.management_port)

    timeout = aiohttp.ClientTimeout(total=settings.registry_timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        pairing = Pairing(slot, PairMetrics(metrics.registry), enabled=settings.pairing)
        router = Router(session, ArmMetrics(metrics.registry), pairing, settings.pod_name, traces.canary_client)
        limits = ConnectionLimits(Limits.of(settings), metrics.load)
        access, refresh_access = _access_control(settings, session, metrics)
        app = create_app(settings, slot, metrics, router, access, decisions, traces.parts)
        public = _server(app, settings, settings.port, limits)
        management_task = asyncio.create_task(management.serve())
        background = [
            asyncio.ensure_future(task)
            for task in (
                keep_loading(slot, Registry(session, settings.registry_url), settings),
                watch_route(settings.route_file, settings.route_poll_seconds, router.apply),
                router.run_shadow_workers(),
                pairing.run(),
                limits.keep_sweeping(public.server_state),
                refresh_access,
                _drain_when_asked(settings, slot, limits, public),
            )
        ]
        if decisions:
            decisions.start()
        await public.serve()
        # What was answered until now is written and sent, while /metrics still tells what could not be.
        await asyncio.gather(traces.close(), *([decisions.close()] if decisions else []))
        management.should_exit = True
        await management_task
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


async def _drain_when_asked(settings: Settings, slot: ModelSlot, limits: ConnectionLimits, public: _Server) -> None:
    """Wait for SIGTERM or SIGINT, then report not ready, drain the connections and stop the public server."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()
    slot.draining = True
    await limits.drain(public.server_state, settings.drain_seconds)
    public.should_exit = True


def _access_control(
    settings: Settings, session: aiohttp.ClientSession, metrics: Metrics
) -> tuple[AccessControl | None, Awaitable[None]]:
    """Return access control, if it is on, and the task that keeps its keys current."""
    if settings.access_mode == "apiKeys":
        keys = ApiKeys(settings.access_dir)
        return AccessControl(keys, OPEN_PATHS, metrics.registry), keys.keep_reading(settings.access_poll_seconds)
    if settings.access_mode == "oidc":
        # Imported here, because only this mode should pay for the memory of its cryptography.
        from scorer.auth.oidc import Issuer, OpenIdTokens  # noqa: PLC0415

        tokens = OpenIdTokens(session, Issuer.of(settings))
        return AccessControl(tokens, OPEN_PATHS, metrics.registry), tokens.keep_refreshing(
            settings.oidc_refresh_seconds
        )
    return None, asyncio.sleep(0)


def _traces(settings: Settings, metrics: Metrics) -> _Traces:
    if not settings.tracing_endpoint:
        return _Traces()
    # Imported here, because without an endpoint nothing of it should be loaded.
    try:
        from scorer.tracing.parts import Traced  # noqa: PLC0415
    except ImportError as error:
        sys.exit(f"SCORER_TRACING_ENDPOINT is set, but the packages of the extra `tracing` are incomplete: {error}")
    traced = Traced.of(settings, metrics)
    parts = Parts(traced.single, traced.batches, traced.audit_log, traced.requests)
    return _Traces(parts, traced.canary_client, traced.decision_log, traced.close)


def _decision_log(settings: Settings, metrics: Metrics, traces: _Traces) -> DecisionLog | None:
    if settings.decision_log == "off":
        return None
    pod = settings.pod_name or socket.gethostname()
    writer = SegmentWriter(settings.decision_log_dir, pod, settings.decision_log_max_bytes)
    return traces.decision_log(writer, settings.decision_log, LogMetrics(metrics.registry))


def _with_stable_version(settings: Settings) -> Settings:
    """Let a pod without a version of its own take the route's stable one: the alias may name a failed version."""
    try:
        route = None if settings.model_version else read_route(settings.route_file)
    except (msgspec.DecodeError, OSError) as error:
        log.warning("ignored the route in %s: %s", settings.route_file, error)
        return settings
    return settings.model_copy(update={"model_version": route.stable.version}) if route and route.stable else settings


def main() -> None:
    """Read the settings and serve."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The event loop needs the interpreter several times for each single application. While a batch has it, each of them
    # takes as long as this; the default is 5 ms.
    sys.setswitchinterval(0.001)
    uvloop.run(serve(Settings()))
