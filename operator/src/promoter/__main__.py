"""Run the operator: the watch, the loops and the HTTP server, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time

import aiohttp
import kopf
from aiohttp import web

from promoter.adapters.kubernetes import KubernetesCluster
from promoter.adapters.metrics import HttpMetrics
from promoter.adapters.mlflow import MlflowRegistry
from promoter.adapters.rest import KubeClient
from promoter.handlers import create_registry, create_settings, login
from promoter.poll import Poller
from promoter.promotion import Adapters
from promoter.reconcile import reconcile, report_fault
from promoter.scheduler import Scheduler
from promoter.server import create_app
from promoter.settings import Settings
from promoter.telemetry import Telemetry


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop, ready = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        kube = KubeClient(login, settings.request_timeout_seconds)
        stack.push_async_callback(kube.close)
        registry = MlflowRegistry(session, settings.registry_url)
        poller = Poller(registry, settings.poll_seconds, settings.poll_max_seconds, time.monotonic)
        adapters = Adapters(KubernetesCluster(kube), registry, HttpMetrics(session), poller, Telemetry(), time.time)
        scheduler = Scheduler(
            adapters, reconcile, report_fault, poll_seconds=settings.poll_seconds, tick_seconds=settings.tick_seconds
        )
        stack.push_async_callback(scheduler.close)
        await _listen(stack, settings.port, create_app(settings, scheduler, poller, adapters.telemetry, ready))
        await kopf.operator(
            registry=create_registry(scheduler),
            settings=create_settings(),
            standalone=True,
            clusterwide=not settings.watched,
            namespaces=settings.watched,
            stop_flag=stop,
            ready_flag=ready,
        )


async def _listen(stack: contextlib.AsyncExitStack, port: int, app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, port=port).start()


def main() -> None:
    """Read the settings and run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(Settings()))


if __name__ == "__main__":
    main()
