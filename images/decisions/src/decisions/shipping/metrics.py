"""What the shipper counts, and what its probes say."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge

# The loop turns every second; one turn ships a bounded number of batches.
_STUCK_SECONDS = 120


@dataclass
class ShipperMetrics:
    """The metrics of one shipper, in a registry of their own."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        """Create the metrics."""
        name = "decisions_shipper"
        self.records = Counter(f"{name}_records", "Records copied into Postgres", registry=self.registry)
        self.batches = Counter(f"{name}_batches", "Transactions committed", registry=self.registry)
        self.failures = Counter(f"{name}_failures", "Batches that failed, by cause", ["cause"], registry=self.registry)
        self.damaged = Counter(
            f"{name}_damaged", "Segments and groups with a part that cannot be read", ["part"], registry=self.registry
        )
        for part in ("segment", "group"):
            self.damaged.labels(part)
        self.set_aside = Gauge(
            f"{name}_set_aside_segments", "Damaged segments kept on this volume", registry=self.registry
        )
        self.waiting_bytes = Gauge(
            f"{name}_waiting_bytes", "Bytes of events not yet in Postgres", registry=self.registry
        )
        self.oldest = Gauge(
            f"{name}_oldest_waiting_seconds", "Age of the oldest decision not yet in Postgres", registry=self.registry
        )
        self.handed_over = Counter(f"{name}_handed_over_segments", "Segments uploaded to S3", registry=self.registry)
        self.taken_up = Counter(f"{name}_taken_up_segments", "Segments taken up from S3", registry=self.registry)


class Health:
    """What the loop reports and the probes read, from another thread."""

    def __init__(self) -> None:
        """Begin as not ready: nothing was tried yet."""
        self._lock = threading.Lock()
        self._problem: str | None = "starting"
        self._turned = time.monotonic()

    def turned(self, problem: str | None) -> None:
        """Report the end of a turn, and what went wrong in it."""
        with self._lock:
            self._problem, self._turned = problem, time.monotonic()

    def alive(self) -> None:
        """Report that the loop is not stuck."""
        with self._lock:
            self._turned = time.monotonic()

    def live(self) -> tuple[int, str]:
        """Return status and text of /healthz."""
        with self._lock:
            seconds = time.monotonic() - self._turned
        return (200, "ok\n") if seconds < _STUCK_SECONDS else (503, f"the loop has not turned for {seconds:.0f} s\n")

    def ready(self) -> tuple[int, str]:
        """Return status and text of /readyz."""
        with self._lock:
            return (503, f"{self._problem}\n") if self._problem else (200, "ready\n")
