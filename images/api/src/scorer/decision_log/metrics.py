"""What Prometheus reads about the decision log."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# queue-full: decisions came faster than they could be written. segments-full: the segments on disk reached their limit.
# disk: they could not be written. shutdown: the process ended before they were written.
Cause = Literal["queue-full", "segments-full", "disk", "shutdown"]
CAUSES: tuple[Cause, ...] = ("queue-full", "segments-full", "disk", "shutdown")
_FSYNC_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class LogMetrics:
    """The decision log's metrics; they exist only while the log is on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Report all of them at zero."""
        prefix = "scorer_decision_log"
        self.decisions = Counter(f"{prefix}_decisions_total", "Decisions made durable", registry=registry)
        self.groups = Counter(f"{prefix}_groups_total", "Groups of decisions made durable together", registry=registry)
        self.fsync = Histogram(
            f"{prefix}_fsync_seconds", "Time to make a group durable, in seconds", registry=registry,
            buckets=_FSYNC_BUCKETS,
        )  # fmt: skip
        self.queue_decisions = Gauge(f"{prefix}_queue_decisions", "Decisions not durable yet", registry=registry)
        self.queue_bytes = Gauge(f"{prefix}_queue_bytes", "Bytes of decisions not durable yet", registry=registry)
        self.segment_bytes = Gauge(f"{prefix}_segment_bytes", "Bytes of all of the pod's segments", registry=registry)
        self.segment_limit = Gauge(f"{prefix}_segment_limit_bytes", "Most bytes of segments", registry=registry)
        self.not_logged = Counter(
            "scorer_decisions_not_logged_total",
            "Decisions without a record, by cause: answered nevertheless in the mode log, refused in the mode require",
            ["cause"], registry=registry,
        )  # fmt: skip
        for cause in CAUSES:
            self.not_logged.labels(cause)
