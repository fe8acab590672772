"""How far a process is, and the whole run as it last saw it, for Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.manifest import Shard, rows_of
from creditrisk_scoring.results import Counts


class BulkMetrics:
    """The metrics of a process; shown what `Progress` is shown."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the metrics, of a run of which nothing is known yet; the clock has seconds that only grow."""
        self._clock = clock
        # When the run was first seen, and how many rows were done.
        self._began: tuple[float, int] | None = None
        self.registry = registry = CollectorRegistry()
        self._read = Counter("bulk_rows_read_total", "Rows that this process has read", registry=registry)
        self._rows = Counter(
            "bulk_rows_total", "Rows of the shards that this process has done, by what became of them", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self._shards = Counter(
            "bulk_shards_total", "Shards that this process has done or could not do", ["result"], registry=registry
        )
        self._run_shards = Gauge("bulk_run_shards", "Shards of the run", registry=registry)
        self._run_shards_done = Gauge(
            "bulk_run_done_shards", "Shards that are done, by whichever process, as this one last saw it",
            registry=registry,
        )  # fmt: skip
        self._run_rows = Gauge(
            "bulk_run_rows", "Rows of the run; NaN while a file is among them whose rows only reading can tell",
            registry=registry,
        )  # fmt: skip
        self._run_rows_done = Gauge(
            "bulk_run_done_rows", "Rows of shards that are done, by whichever process, as this one last saw it",
            registry=registry,
        )  # fmt: skip
        self._run_left = Gauge(
            "bulk_run_left_seconds", "Seconds until the run is done, at its speed since this process began; NaN if "
            "unknown", registry=registry,
        )  # fmt: skip
        self._run_rows.set(math.nan)
        self._run_left.set(math.nan)
        for outcome in ("scored", "rejected", "excluded"):
            self._rows.labels(outcome)
        for result in ("done", "failed"):
            self._shards.labels(result)

    def whole(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        """Take what there is to do, and what is done, by whomever."""
        self._run_shards.set(len(shards))
        self._run_shards_done.set(len(done))
        rows, done_rows, now = rows_of(shards), sum(shard.rows or 0 for shard in done), self._clock()
        began, before = self._began = self._began or (now, done_rows)
        self._run_rows.set(math.nan if rows is None else rows)
        self._run_rows_done.set(done_rows)
        self._run_left.set(_left(rows, done_rows, done_rows - before, now - began))

    def rows(self, count: int) -> None:
        """Count rows that were read."""
        self._read.inc(count)

    def finished(self, shard: Shard, counts: Counts) -> None:  # noqa: ARG002 - as all that are shown progress
        """Count a shard that this process has done."""
        self._shards.labels("done").inc()
        for outcome in ("scored", "rejected", "excluded"):
            self._rows.labels(outcome).inc(getattr(counts, outcome))

    def failed(self, shard: Shard, error: BulkError) -> None:  # noqa: ARG002
        """Count a shard that this process could not do."""
        self._shards.labels("failed").inc()


def _left(rows: int | None, done: int, newly: int, seconds: float) -> float:
    """Return the seconds that are left, at the speed since this process began; NaN if that is unknown."""
    if rows is None:
        return math.nan
    if rows <= done:
        return 0.0
    return (rows - done) * seconds / newly if newly else math.nan


@contextmanager
def served_metrics(port: int) -> Iterator[BulkMetrics]:
    """Give metrics that are served on a port while the block lasts.

    Raises:
        UsageError: The port cannot be opened.
    """
    metrics = BulkMetrics()
    try:
        server, thread = start_http_server(port, registry=metrics.registry)
    except OSError as error:
        raise UsageError(f"--metrics-port {port}: {error}") from error
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
