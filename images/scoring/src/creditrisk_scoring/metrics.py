"""How far a process is, and the whole run as it last saw it, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.manifest import Shard
from creditrisk_scoring.results import Counts


class BulkMetrics:
    """The metrics of a process; shown what `Progress` is shown."""

    def __init__(self) -> None:
        """Create the metrics, of a run of which nothing is known yet."""
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
        for outcome in ("scored", "rejected", "excluded"):
            self._rows.labels(outcome)
        for result in ("done", "failed"):
            self._shards.labels(result)

    def whole(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        """Take what there is to do, and what is done, by whomever."""
        self._run_shards.set(len(shards))
        self._run_shards_done.set(len(done))

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
