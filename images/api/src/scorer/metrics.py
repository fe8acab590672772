"""What Prometheus reads from a pod."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SCORE_BUCKETS = tuple(edge / 20 for edge in range(1, 20))


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Make all metrics at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "scorer_requests_total", "Scoring requests by status code", ["status"], registry=self.registry
        )
        self.latency = Histogram(
            "scorer_request_seconds", "Time from a request's whole body to its answer, in seconds",
            buckets=LATENCY_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.scores = Histogram(
            "scorer_probability_of_default", "Probabilities of default that were answered",
            buckets=SCORE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.decisions = Counter("scorer_decisions_total", "Answers by decision", ["decision"], registry=self.registry)
        self.model = Gauge("scorer_model_info", "1 for the version that is served", ["name", "version"],
                           registry=self.registry)  # fmt: skip
        # Looking a label's child up costs more than counting does.
        self._ok = self.requests.labels(200)
        self._decided = {decision: self.decisions.labels(decision) for decision in ("approve", "decline")}

    def answered(self, status: int, started: float) -> None:
        """Count an answer; `started` is the perf_counter of when the body was whole, 0 where it never was."""
        if started:
            self.latency.observe(time.perf_counter() - started)
        (self._ok if status == 200 else self.requests.labels(status)).inc()

    def scored(self, probability: float, decision: str) -> None:
        """Count a score."""
        self.scores.observe(probability)
        self._decided[decision].inc()
