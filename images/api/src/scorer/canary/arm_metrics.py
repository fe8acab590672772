"""Metrics for both arms, which the operator judges a canary by: contracts/metrics.json."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from scorer.answers import Score
from scorer.canary.breaker import SKIPPED
from scorer.metrics import LATENCY_BUCKETS, SCORE_BUCKETS


class ArmMetrics:
    """Counts what both arms answered, while there is a canary."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create all metrics at zero."""
        arms = ["arm", "version"]
        self.generation = Gauge(
            "scorer_route_generation", "The route's generation that the pod applies", registry=registry
        )
        self.requests = Counter(
            "scorer_arm_requests_total", "Requests by arm and outcome", [*arms, "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "scorer_arm_seconds", "Seconds to an arm's answer, as the stable pod sees it", arms,
            buckets=LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip
        self.scores = Histogram(
            "scorer_arm_probability_of_default", "Probabilities of default by arm", arms,
            buckets=SCORE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.decisions = Counter(
            "scorer_arm_decisions_total", "Decisions by arm", [*arms, "decision"], registry=registry
        )
        self.dropped = Counter(
            "scorer_shadow_dropped_total", "Shadow copies dropped because the queue was full", ["version"],
            registry=registry,
        )  # fmt: skip

    def answered(self, arm: str, version: str, score: Score, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(arm, version, "ok").inc()
        self.seconds.labels(arm, version).observe(seconds)
        self.scores.labels(arm, version).observe(score.probability_of_default)
        self.decisions.labels(arm, version, score.decision).inc()

    def failed(self, version: str, outcome: str, seconds: float) -> None:
        """Count a request that the canary did not answer; a skipped one says nothing about its latency."""
        self.requests.labels("canary", version, outcome).inc()
        if outcome != SKIPPED:
            self.seconds.labels("canary", version).observe(seconds)
