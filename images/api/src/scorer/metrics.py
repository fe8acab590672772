"""What Prometheus reads from a pod."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily
from prometheus_client.registry import Collector

from scorer.contract import Histogram

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SCORE_BUCKETS = tuple(edge / 20 for edge in range(1, 20))
# OpenMetrics allows an exemplar 128 characters; a client may choose a longer id.
MAX_EXEMPLAR_ID = 100


class Distribution(Collector):
    """A histogram that counts a batch in one step; the client's own takes a lock and a loop for each value.

    Only the event loop's thread may count.
    """

    def __init__(self, name: str, about: str, edges: Sequence[float], registry: CollectorRegistry) -> None:
        """Take the increasing upper edges of the buckets; a last bucket holds everything above them."""
        self._name, self._about, self._edges = name, about, list(edges)
        self._counts, self._sum = [0] * (len(edges) + 1), 0.0
        # By bucket: the last value with its request, and when that was.
        self._examples: list[tuple[str, float, float] | None] = [None] * (len(edges) + 1)
        registry.register(self)

    def observe(self, value: float, request_id: str = "") -> None:
        """Count one value; the id of its request, if given, becomes the bucket's exemplar."""
        bucket = bisect_left(self._edges, value)
        self._counts[bucket] += 1
        self._sum += value
        if request_id:
            self._examples[bucket] = (request_id, value, time.time())

    def observe_many(self, values: npt.NDArray[np.float32]) -> None:
        """Count values, [N]."""
        found = np.bincount(np.searchsorted(self._edges, values), minlength=len(self._counts))
        self._counts = [before + new for before, new in zip(self._counts, found.tolist(), strict=True)]
        self._sum += float(values.sum(dtype=np.float64))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Report the histogram."""
        cumulative = list(itertools.accumulate(map(float, self._counts)))
        buckets = [
            _with_example(edge, count, example)
            for (edge, count), example in zip(_buckets(self._edges, cumulative), self._examples, strict=True)
        ]
        yield HistogramMetricFamily(self._name, self._about, buckets, self._sum)


class ReferenceDistribution(Collector):
    """The served version's score histogram from training, in the buckets of the live scores, so that PSI can join them.

    A training bin that straddles a bucket's edge is split in proportion. The sum is that of the bins' midpoints.
    """

    def __init__(self, name: str, about: str, edges: Sequence[float], registry: CollectorRegistry) -> None:
        """Take the buckets' upper edges; nothing is reported before `show`."""
        self._name, self._about, self._edges = name, about, list(edges)
        self._histogram: Histogram | None = None
        registry.register(self)

    def show(self, histogram: Histogram) -> None:
        """Report this histogram from now on."""
        self._histogram = histogram

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Report the histogram, if there is one."""
        if self._histogram is None:
            return
        edges, counts = np.array(self._histogram.edges), np.array(self._histogram.counts, np.float64)
        below = np.concatenate([[0.0], counts.cumsum()])
        cumulative = [*np.interp(self._edges, edges, below).tolist(), float(counts.sum())]
        midpoints = (edges[1:] + edges[:-1]) / 2
        yield HistogramMetricFamily(
            self._name, self._about, _buckets(self._edges, cumulative), float((midpoints * counts).sum())
        )


class LabeledCounter(Collector):
    """A counter with one label that counts without a lock; only the event loop's thread may count."""

    def __init__(self, name: str, about: str, label: str, registry: CollectorRegistry) -> None:
        """Take the counter's name without `_total`, and the label's name."""
        self._name, self._about, self._label = name, about, label
        self.counts: defaultdict[str, int] = defaultdict(int)
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Report the counter."""
        family = CounterMetricFamily(self._name, self._about, labels=[self._label])
        for value, count in self.counts.items():
            family.add_metric([value], count)
        yield family


class SparseCounter(Collector):
    """A counter with several labels that counts without a lock, and reports only what occurred.

    Only the event loop's thread may count.
    """

    def __init__(self, name: str, about: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        """Take the counter's name without `_total`, and the labels' names."""
        self._name, self._about, self._labels = name, about, labels
        self._counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
        registry.register(self)

    def add(self, amount: float, *values: str) -> None:
        """Add an amount, at least 0, to the series with these values of the labels."""
        self._counts[values] += amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Report the counter."""
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        yield family


class LoadMetrics:
    """How many requests may run, and how many were refused before they did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Report all reasons at zero."""
        refused = Counter("scorer_refused_total", "Requests refused by the server, by reason", ["reason"],
                          registry=registry)  # fmt: skip
        self.overloaded, self.crowded, self.slow, self.large, self.unread, self.bodies = (
            refused.labels(reason)
            for reason in ("overload", "connections", "slow", "headers", "unread-answer", "bodies")
        )
        self.limit = Gauge("scorer_concurrency_limit", "How many requests may run at once now", registry=registry)


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Create all metrics at zero."""
        self.registry = CollectorRegistry()
        self.requests = LabeledCounter("scorer_requests", "Scoring requests by status code", "status", self.registry)
        self.latency = Distribution(
            "scorer_request_seconds", "Time from an application's last byte to its answer, in seconds",
            LATENCY_BUCKETS, self.registry,
        )  # fmt: skip
        self.scores = Distribution(
            "scorer_probability_of_default", "Probabilities of default in answers",
            SCORE_BUCKETS, self.registry,
        )  # fmt: skip
        self.reference_scores = ReferenceDistribution(
            "scorer_reference_probability_of_default",
            "Probabilities of default of the served version on held-out rows in training: the reference for PSI",
            SCORE_BUCKETS, self.registry,
        )  # fmt: skip
        self.decisions = LabeledCounter("scorer_decisions", "Answers by decision", "decision", self.registry)
        self.rows = Counter(
            "scorer_rows_total", "Rows of batches by endpoint and outcome", ["endpoint", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.input_warnings = Counter(
            "scorer_input_warnings_total", "Values that were scored although training saw none like them",
            ["field", "code"], registry=self.registry,
        )  # fmt: skip
        self.load = LoadMetrics(self.registry)
        self.ready = Gauge(
            "scorer_ready", "1 if the pod is ready: its model is loaded and it is not shutting down; else 0",
            registry=self.registry,
        )  # fmt: skip
        self.model = Gauge("scorer_model_info", "1 for the version that is served", ["name", "version"],
                           registry=self.registry)  # fmt: skip
        # Reported from the start, so that the first answer already gives them a rate.
        self.requests.counts["200"] = self.decisions.counts["approve"] = self.decisions.counts["decline"] = 0

    def answered(self, status: int, started: float, request_id: str = "") -> None:
        """Count an answer; `started` is the perf_counter when the body was complete, 0 if it never was."""
        if started:
            self.latency.observe(time.perf_counter() - started, request_id)
        self.requests.counts["200" if status == 200 else str(status)] += 1

    def scored(self, probability: float, decision: str) -> None:
        """Count a score."""
        self.scores.observe(probability)
        self.decisions.counts[decision] += 1

    def scored_many(self, endpoint: str, probabilities: npt.NDArray[np.float32], declined: int, refused: int) -> None:
        """Count the rows of a batch: the probabilities of the scored ones, and how many were refused."""
        self.scores.observe_many(probabilities)
        self.decisions.counts["decline"] += declined
        self.decisions.counts["approve"] += len(probabilities) - declined
        self.rows.labels(endpoint, "scored").inc(len(probabilities))
        self.rows.labels(endpoint, "refused").inc(refused)

    def warned(self, counts: Iterable[tuple[str, str, int]]) -> None:
        """Count warnings: how often each field got each code."""
        for field, code, count in counts:
            self.input_warnings.labels(field, code).inc(count)

    def serving(self, name: str, version: str, histogram: Histogram) -> None:
        """Report the served version and its score histogram from training."""
        self.model.labels(name, version).set(1)
        self.reference_scores.show(histogram)


def _with_example(
    edge: str, count: float, example: tuple[str, float, float] | None
) -> tuple[str, float] | tuple[str, float, Exemplar]:
    """Return a bucket as the client library takes it; the example is a request's id, its value and its time."""
    if example is None or len(example[0]) > MAX_EXEMPLAR_ID:
        return edge, count
    return edge, count, Exemplar({"request_id": example[0]}, *example[1:])


def _buckets(edges: Sequence[float], cumulative: Sequence[float]) -> list[tuple[str, float]]:
    return list(zip([*map(str, edges), "+Inf"], cumulative, strict=True))
