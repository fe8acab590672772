"""Run the operator: the watch, the loops and the HTTP server, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import kopf
from aiohttp import web

from promoter.adapters.approvals import ApprovalObjects
from promoter.adapters.checks import HttpChecks
from promoter.adapters.drift import HttpDriftReports
from promoter.adapters.kubernetes import KubernetesCluster
from promoter.adapters.lease import Lease, OwnPod
from promoter.adapters.metrics import HttpMetrics
from promoter.adapters.mlflow import MlflowRegistry
from promoter.adapters.notification_receivers import create_session, subscriptions
from promoter.adapters.rest import KubeClient
from promoter.adapters.timeline import HttpTimeline
from promoter.adapters.trainings import JobTrainings
from promoter.admission import create_admission_app
from promoter.certificate import Certificate
from promoter.drift import DriftWatch
from promoter.handlers import create_registry, create_settings, login
from promoter.leftovers import Leftovers
from promoter.notifications.delivery import Notifier
from promoter.outbox import Outbox
from promoter.page.access import KeyAccess, OpenAccess
from promoter.page.app import create_page
from promoter.page.board import Board
from promoter.page.streams import Streams
from promoter.poll import Poller
from promoter.promotion import Adapters
from promoter.reconcile import reconcile, report_fault
from promoter.scheduler import Scheduler, Turn
from promoter.server import create_app
from promoter.settings import Settings
from promoter.telemetry import Telemetry
from promoter.training_runs import TrainingRuns


async def _nothing() -> None:
    pass


@dataclass(frozen=True)
class _Traces:
    """What tracing has its own of, as it is without it, and what ends it."""

    turn: Turn = reconcile
    requests: Sequence[aiohttp.TraceConfig] = ()
    annotations: Callable[[], Mapping[str, str]] = dict
    close: Callable[[], Awaitable[None]] = _nothing


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop, ready = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
    async with contextlib.AsyncExitStack() as stack:
        traces = _traces(settings)
        stack.push_async_callback(traces.close)
        session = aiohttp.ClientSession(timeout=timeout, trace_configs=[*traces.requests])
        await stack.enter_async_context(session)
        lease = _lease(stack, settings)
        may_write = lease.held if lease else lambda: True
        kube = KubeClient(login, settings.request_timeout_seconds, may_write, traces.requests)
        stack.push_async_callback(kube.close)
        registry = MlflowRegistry(session, settings.registry_url)
        poller = Poller(registry, settings.poll_seconds, settings.poll_max_seconds, time.monotonic)
        cluster = KubernetesCluster(kube)
        telemetry = Telemetry()
        outbox = _outbox(session, settings, telemetry)
        notifier = await _notifier(stack, settings, telemetry)
        drift = _drift(session, settings, poller)
        board = Board(time.time, settings.page_path) if settings.page_port is not None else None
        adapters = Adapters(
            cluster, registry, HttpMetrics(session), poller, telemetry, time.time,
            outbox=outbox, notifier=notifier, audience=board, checks=_checks(session, settings),
            approvals=await _approvals(stack, settings), drift=drift,
            trainings=JobTrainings(kube, traces.annotations) if settings.retraining else None,
        )  # fmt: skip
        scheduler = Scheduler(
            adapters, traces.turn, report_fault, poll_seconds=settings.poll_seconds, tick_seconds=settings.tick_seconds
        )
        stack.push_async_callback(scheduler.close)
        await _listen(stack, settings.port, create_app(settings, scheduler, poller, telemetry, ready))
        if board:
            await _listen(stack, settings.page_port or 0, _page(settings, board))
        if lease:
            await _hold(lease, stack, stop, ready)
        if stop.is_set():
            return
        if board:
            board.opened = True
        # Not while it stands by: it would know of no ModelPromotion, and take every autoscaler for a leftover.
        leftovers = Leftovers(cluster, settings.watched, scheduler.followed, time.monotonic)
        _in_background(stack, leftovers.run(settings.poll_seconds), "leftovers")
        training = TrainingRuns(registry, lambda: poller.models, telemetry)
        _in_background(stack, training.run(settings.poll_max_seconds), "training runs")
        if drift:
            _in_background(stack, drift.run(), "drift")
        if outbox:
            _in_background(stack, outbox.run(), "outbox")
        if notifier:
            _in_background(stack, notifier.run(), "notifier")
        await kopf.operator(
            registry=create_registry(scheduler),
            settings=create_settings(),
            standalone=True,
            clusterwide=not settings.watched,
            namespaces=settings.watched,
            stop_flag=stop,
            ready_flag=ready,
        )


def _traces(settings: Settings) -> _Traces:
    if not settings.tracing_endpoint:
        return _Traces()
    # Imported here, because without an endpoint nothing of it should be loaded.
    try:
        from promoter.tracing import Tracing  # noqa: PLC0415
    except ImportError as error:
        sys.exit(f"PROMOTER_TRACING_ENDPOINT is set, but the packages of the extra `tracing` are incomplete: {error}")
    tracing = Tracing.of(settings)
    return _Traces(tracing.turns(reconcile), (tracing.requests(),), tracing.annotations, tracing.close)


def _outbox(session: aiohttp.ClientSession, settings: Settings, telemetry: Telemetry) -> Outbox | None:
    """Return what delivers events to the timeline; None if there is none."""
    if not settings.timeline_url:
        return None
    return Outbox(HttpTimeline(session, settings.timeline_url, settings.timeline_key_file), telemetry)


async def _notifier(stack: contextlib.AsyncExitStack, settings: Settings, telemetry: Telemetry) -> Notifier | None:
    """Return what tells people; None if there is nobody to be told."""
    session = await stack.enter_async_context(create_session())
    found = subscriptions(session, settings.notifications)
    return Notifier(found, telemetry, time.time) if found else None


def _page(settings: Settings, board: Board) -> web.Application:
    access = OpenAccess() if settings.page_access == "none" else KeyAccess(settings.page_keys)
    return create_page(board, access, Streams(settings.page_followers), time.time)


def _checks(session: aiohttp.ClientSession, settings: Settings) -> HttpChecks | None:
    """Return what asks the decisions service about a canary; None if there is none."""
    if not settings.checks_url:
        return None
    return HttpChecks(session, settings.checks_url, settings.checks_key_file)


def _drift(session: aiohttp.ClientSession, settings: Settings, poller: Poller) -> DriftWatch | None:
    """Return what asks for drift reports; None if nobody makes any."""
    if not settings.drift_url:
        return None
    reports = HttpDriftReports(session, settings.drift_url, settings.drift_key_file)
    return DriftWatch(reports, lambda: poller.models, settings.drift_seconds)


def _in_background(stack: contextlib.AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    task = asyncio.create_task(work, name=name)
    stack.callback(task.cancel)


def _lease(stack: contextlib.AsyncExitStack, settings: Settings) -> Lease | None:
    """Return the Lease of the operator's pod, with a client of its own; None outside of a pod."""
    if not settings.pod_name:
        return None
    kube = KubeClient(login, settings.request_timeout_seconds)
    stack.push_async_callback(kube.close)
    return Lease(kube, OwnPod(settings.pod_namespace, settings.pod_name, settings.pod_uid))


async def _hold(lease: Lease, stack: contextlib.AsyncExitStack, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Wait for the Lease, or until the process is to stop; then keep it, and stop the process if it is lost.

    An operator that starts again knows nothing of what it decided before, which another one may have changed.
    """
    # An operator that stands by is ready: it takes over when it can.
    acquired = asyncio.create_task(lease.acquire(standing_by=ready.set))
    stopped = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait({acquired, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()
    ready.clear()
    kept = asyncio.create_task(lease.keep())
    kept.add_done_callback(lambda _: stop.set())
    stack.callback(kept.cancel)


async def _approvals(stack: contextlib.AsyncExitStack, settings: Settings) -> ApprovalObjects | None:
    """Serve the webhook that checks approvals, also while standing by: it writes nothing. None without approvals."""
    if settings.approvals_certificate is None:
        return None
    certificate = Certificate(settings.approvals_certificate)
    _in_background(stack, certificate.keep_fresh(), "certificate")
    kube = KubeClient(login, settings.request_timeout_seconds)
    stack.push_async_callback(kube.close)
    objects = ApprovalObjects(kube)
    await _listen(stack, settings.approvals_port, create_admission_app(objects, settings.follows), certificate.context)
    return objects


async def _listen(
    stack: contextlib.AsyncExitStack, port: int, app: web.Application, tls: ssl.SSLContext | None = None
) -> None:
    # A handler ends when its client has gone: one that sends events would learn that late.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, port=port, ssl_context=tls).start()


def main() -> None:
    """Read the settings and run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(Settings()))


if __name__ == "__main__":
    main()
