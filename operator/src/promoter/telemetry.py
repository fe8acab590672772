"""The operator's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from promoter.decision.state import Phase, State
from promoter.ports import Owner


class Telemetry:
    """What Prometheus reads from the operator, in a registry of its own."""

    def __init__(self) -> None:
        """Make all metrics at zero."""
        self.registry = CollectorRegistry()
        labels = ["namespace", "name"]
        self.phase = Gauge(
            "promoter_phase", "1 for the phase of a ModelPromotion", [*labels, "phase"], registry=self.registry
        )
        self.weight = Gauge("promoter_verified_weight_percent", "The canary's share", labels, registry=self.registry)
        self.verdicts = Counter(
            "promoter_verdicts_total", "Judgements by verdict", [*labels, "verdict"], registry=self.registry
        )
        self.rollouts = Counter(
            "promoter_rollouts_total", "Ended rollouts by outcome", [*labels, "outcome"], registry=self.registry
        )
        self.errors = Counter(
            "promoter_reconcile_errors_total", "Turns that failed, by kind", [*labels, "kind"], registry=self.registry
        )
        self.poll_age = Gauge(
            "promoter_poll_age_seconds", "Seconds since the registry's last answer, for the pointer with the oldest",
            registry=self.registry,
        )  # fmt: skip

    def show(self, owner: Owner, state: State) -> None:
        """Set the gauges to where a promotion stands."""
        key = (owner.namespace, owner.name)
        for phase in Phase:
            self.phase.labels(*key, phase.value).set(phase == state.phase)
        self.weight.labels(*key).set(state.verified_weight)

    def moved(self, owner: Owner, before: State, after: State) -> None:
        """Count what a new state brings."""
        self.show(owner, after)
        key = (owner.namespace, owner.name)
        if after.analysis and after.analysis != before.analysis:
            self.verdicts.labels(*key, after.analysis.verdict.value).inc()
        if after.history[:1] != before.history[:1] and after.history:
            self.rollouts.labels(*key, after.history[0].outcome).inc()

    def forget(self, owner: Owner) -> None:
        """Drop a deleted promotion's gauges."""
        for phase in Phase:
            self._drop(self.phase, owner.namespace, owner.name, phase.value)
        self._drop(self.weight, owner.namespace, owner.name)

    @staticmethod
    def _drop(gauge: Gauge, *labels: str) -> None:
        gauge.labels(*labels)
        gauge.remove(*labels)
