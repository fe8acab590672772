"""Metrics of the backups in their store, for a process that runs all the time: the Jobs that take backups do not."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from backup.errors import BackupError

logger = logging.getLogger("backup")
PORT = 9092
# A listing costs one request per thousand files.
INTERVAL_SECONDS = 60.0


class BackupMetrics:
    """What the store says; a store that does not answer changes nothing but `reachable`."""

    def __init__(self) -> None:
        """Create the metrics; nothing is known yet."""
        self.registry = CollectorRegistry()
        self._last = Gauge(
            "backup_last_complete_timestamp_seconds",
            "The moment that the newest complete backup holds; 0 if there is none", registry=self.registry,
        )  # fmt: skip
        self._complete = Gauge("backup_complete_backups", "Complete backups in the store", registry=self.registry)
        self._reachable = Gauge(
            "backup_store_reachable", "1 if the store of the backups answered when it was last asked, else 0",
            registry=self.registry,
        )  # fmt: skip

    def update(self, ids: Callable[[], Sequence[str]]) -> None:
        """Ask for the ids of all complete backups, the oldest first, and report what they say."""
        try:
            found = ids()
        except BackupError as error:
            self._reachable.set(0)
            logger.warning("the backups are unknown: %s", error)
            return
        self._reachable.set(1)
        self._complete.set(len(found))
        self._last.set(_moment(found[-1]) if found else 0)


def serve(ids: Callable[[], Sequence[str]], port: int = PORT) -> None:
    """Serve the metrics, and keep them up to date, for ever."""
    metrics = BackupMetrics()
    metrics.update(ids)
    start_http_server(port, registry=metrics.registry)
    while True:
        time.sleep(INTERVAL_SECONDS)
        metrics.update(ids)


def _moment(backup_id: str) -> float:
    """Return the moment of a backup's snapshot, which is its id, in seconds since 1970."""
    return datetime.strptime(backup_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
