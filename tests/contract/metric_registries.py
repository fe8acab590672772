"""The metrics that the programs really have, by part, to compare contracts/metrics.json with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from backup.metrics import BackupMetrics
from creditrisk_scoring.metrics import BulkMetrics
from decisions.service.boundary import Metrics as ServiceMetrics
from decisions.service.drift_metrics import DriftMetrics
from decisions.shipping.metrics import ShipperMetrics
from promoter.telemetry import Telemetry
from scorer.auth.access_control import AccessControl
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.pair_metrics import PairMetrics
from scorer.contract import Histogram
from scorer.decision_log.metrics import LogMetrics
from scorer.metrics import Metrics
from scorer.tracing.export import SpanMetrics


@dataclass(frozen=True)
class Metric:
    """A metric's name as in queries, its type and its labels."""

    name: str
    type: str
    labels: tuple[str, ...]


def scorer() -> CollectorRegistry:
    """Return the registry of a scoring pod with everything on."""
    metrics = Metrics()
    registry = metrics.registry
    # Reported with a model only.
    metrics.serving("m", "1", Histogram((0.0, 1.0), (1,)))
    ArmMetrics(registry)
    PairMetrics(registry)
    LogMetrics(registry)
    SpanMetrics(registry)
    AccessControl(None, (), registry)  # type: ignore[arg-type]  # nobody is identified here
    return registry


def decisions() -> CollectorRegistry:
    """Return the registry of the decisions service."""
    registry = ServiceMetrics().registry
    DriftMetrics(registry)
    return registry


REGISTRIES: dict[str, Callable[[], CollectorRegistry]] = {
    "scorer": scorer,
    "operator": lambda: Telemetry().registry,
    "shipper": lambda: ShipperMetrics().registry,
    "decisions": decisions,
    "bulk": lambda: BulkMetrics().registry,
    "backup": lambda: BackupMetrics().registry,
}


def metrics_of(part: str) -> list[Metric]:
    """Return a part's metrics in the order of their names."""
    found = []
    # A collector says which labels it has only once it has samples; the programs' own classes keep them as _label(s).
    for collector in REGISTRIES[part]()._collector_to_names:
        known: Any = collector
        labels = getattr(known, "_labelnames", None) or getattr(known, "_labels", None) or ()
        labels = labels or ([known._label] if hasattr(known, "_label") else [])
        for family in known.describe() if hasattr(known, "describe") else known.collect():
            suffix = "_total" if family.type == "counter" else ""
            found.append(Metric(family.name + suffix, family.type, tuple(labels)))
    return sorted(found, key=lambda metric: metric.name)
