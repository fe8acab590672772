"""`python -m decisions ship`."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Sequence

from decisions.errors import UsageError
from decisions.settings import ShipSettings
from decisions.shipping.database import Database
from decisions.shipping.handover import Handover, connect
from decisions.shipping.management import management_port
from decisions.shipping.metrics import Health, ShipperMetrics
from decisions.shipping.shipper import Shipper

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Ship until SIGTERM or SIGINT; return 1 if segments are left behind."""
    argparse.ArgumentParser(
        prog="decisions ship", description="Copy the decisions of this pod into Postgres until SIGTERM."
    ).parse_args(arguments)
    settings = ShipSettings()
    if not settings.log_dir.is_dir():
        raise UsageError(f"DECISIONS_LOG_DIR: {settings.log_dir} is not a folder")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics, health = ShipperMetrics(), Health()
    database = Database(settings.conninfo)
    shipper = Shipper(settings.log_dir, settings.pod_name, database, metrics, health, _handover(settings))
    with management_port(settings.management_port, health, metrics.registry):
        logger.info("shipping the logs in %s as the pod %s", settings.log_dir, settings.pod_name)
        return 0 if shipper.run(stop, settings.shutdown_seconds) else 1


def _handover(settings: ShipSettings) -> Handover | None:
    if settings.s3_bucket is None:
        return None
    return connect(settings.s3_bucket, settings.s3_prefix, settings.s3_endpoint_url)
