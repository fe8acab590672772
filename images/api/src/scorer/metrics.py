"""What Prometheus reads from a pod."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SCORE_BUCKETS = tuple(edge / 20 for edge in range(1, 20))


class Distribution(Collector):
    """A histogram that takes a batch in one step; the client's own takes a lock and a loop for each value.

    Only the event loop's thread may count.
    """

    def __init__(self, name: str, about: str, edges: Sequence[float], registry: CollectorRegistry) -> None:
        """Take the buckets' upper edges, rising; the last bucket is all above them."""
        self._name, self._about, self._edges = name, about, list(edges)
        self._counts, self._sum = [0] * (len(edges) + 1), 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def observe_many(self, values: npt.NDArray[np.float32]) -> None:
        """Count values, [N]."""
        found = np.bincount(np.searchsorted(self._edges, values), minlength=len(self._counts))
        self._counts = [before + new for before, new in zip(self._counts, found.tolist(), strict=True)]
        self._sum += float(values.sum(dtype=np.float64))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Tell Prometheus."""
        total, buckets = 0, []
        for edge, count in zip([*map(str, self._edges), "+Inf"], self._counts, strict=True):
            total += count
            buckets.append((edge, float(total)))
        yield HistogramMetricFamily(self._name, self._about, buckets, self._sum)


class Tally(Collector):
    """A counter with one label that counts without a lock, by the event loop's thread alone."""

    def __init__(self, name: str, about: str, label: str, registry: CollectorRegistry) -> None:
        """Take the name without `_total`, and the label's."""
        self._name, self._about, self._label = name, about, label
        self.counts: defaultdict[str, int] = defaultdict(int)
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Tell Prometheus."""
        family = CounterMetricFamily(self._name, self._about, labels=[self._label])
        for value, count in self.counts.items():
            family.add_metric([value], count)
        yield family


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Make all metrics at zero."""
        self.registry = CollectorRegistry()
        self.requests = Tally("scorer_requests", "Scoring requests by status code", "status", self.registry)
        self.latency = Distribution(
            "scorer_request_seconds", "Time from an application's whole body to its answer, in seconds",
            LATENCY_BUCKETS, self.registry,
        )  # fmt: skip
        self.scores = Distribution(
            "scorer_probability_of_default", "Probabilities of default that were answered",
            SCORE_BUCKETS, self.registry,
        )  # fmt: skip
        self.decisions = Tally("scorer_decisions", "Answers by decision", "decision", self.registry)
        self.rows = Counter(
            "scorer_rows_total", "Rows of batches by endpoint and outcome", ["endpoint", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.model = Gauge("scorer_model_info", "1 for the version that is served", ["name", "version"],
                           registry=self.registry)  # fmt: skip
        # Told from the start, so that their rates are known with the first answer.
        self.requests.counts["200"] = self.decisions.counts["approve"] = self.decisions.counts["decline"] = 0

    def answered(self, status: int, started: float) -> None:
        """Count an answer; `started` is the perf_counter of when the body was whole, 0 where it never was."""
        if started:
            self.latency.observe(time.perf_counter() - started)
        self.requests.counts["200" if status == 200 else str(status)] += 1

    def scored(self, probability: float, decision: str) -> None:
        """Count a score."""
        self.scores.observe(probability)
        self.decisions.counts[decision] += 1

    def scored_many(self, endpoint: str, probabilities: npt.NDArray[np.float32], declined: int, failed: int) -> None:
        """Count the rows of a batch: the probabilities of those that were scored, and how many could not be."""
        self.scores.observe_many(probabilities)
        self.decisions.counts["decline"] += declined
        self.decisions.counts["approve"] += len(probabilities) - declined
        self.rows.labels(endpoint, "scored").inc(len(probabilities))
        self.rows.labels(endpoint, "refused").inc(failed)
