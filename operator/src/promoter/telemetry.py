"""The operator's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from promoter.api.resource import Owner
from promoter.api.status import Phase, State


class Telemetry:
    """The operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Create all metrics."""
        self.registry = CollectorRegistry()
        labels = ["namespace", "name"]
        self.phase = Gauge(
            "promoter_phase", "1 for the current phase of a ModelPromotion", [*labels, "phase"], registry=self.registry
        )
        self.weight = Gauge(
            "promoter_verified_weight_percent", "Percentage of applicants the canary answers, as every stable pod "
            "reports it", labels, registry=self.registry,
        )  # fmt: skip
        self.desired_weight = Gauge(
            "promoter_weight_percent", "Percentage of applicants that the canary should answer", labels,
            registry=self.registry,
        )  # fmt: skip
        self.condition = Gauge(
            "promoter_condition", "1 for the current status and reason of each of a ModelPromotion's conditions",
            [*labels, "type", "status", "reason"], registry=self.registry,
        )  # fmt: skip
        # By promotion: the labels that are reported.
        self._conditions: dict[tuple[str, str], set[tuple[str, str, str]]] = {}
        self.verdicts = Counter(
            "promoter_verdicts_total", "Analyses by verdict", [*labels, "verdict"], registry=self.registry
        )
        self.rollouts = Counter(
            "promoter_rollouts_total", "Ended rollouts by outcome", [*labels, "outcome"], registry=self.registry
        )
        self.errors = Counter(
            "promoter_reconcile_errors_total", "Failed reconciliations by kind of error", [*labels, "kind"],
            registry=self.registry,
        )  # fmt: skip
        self.poll_age = Gauge(
            "promoter_poll_age_seconds", "Seconds since the registry's last answer, for the pointer with the oldest "
            "one", registry=self.registry,
        )  # fmt: skip
        self.training_runs = Gauge(
            "promoter_training_run_timestamp_seconds", "When a model's newest training run with this status ended, or "
            "began if it is running; 0 if there is none", ["model", "status"], registry=self.registry,
        )  # fmt: skip
        self.timeline_pending = Gauge(
            "promoter_timeline_pending_events", "Events for the timeline that are not delivered yet", labels,
            registry=self.registry,
        )  # fmt: skip
        self.timeline_events = Counter(
            "promoter_timeline_events_total", "Events for the timeline by what became of them: delivered, refused by "
            "the service, or dropped because too many were pending", ["outcome"], registry=self.registry,
        )  # fmt: skip
        self.timeline_failures = Counter(
            "promoter_timeline_failures_total", "Attempts to deliver an event that are repeated", registry=self.registry
        )

        self.notifications = Counter(
            "promoter_notifications_total", "Notifications by receiver and by what became of them: delivered, refused "
            "by the receiver, expired after a day, or dropped because too many were pending", ["receiver", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.notification_failures = Counter(
            "promoter_notification_failures_total", "Attempts to deliver a notification that are repeated",
            ["receiver"], registry=self.registry,
        )  # fmt: skip
        self.notifications_pending = Gauge(
            "promoter_notifications_pending", "Notifications that are not delivered yet", ["receiver"],
            registry=self.registry,
        )  # fmt: skip

    def set_gauges(self, owner: Owner, state: State) -> None:
        """Set the gauges of a promotion to its state."""
        key = (owner.namespace, owner.name)
        for phase in Phase:
            self.phase.labels(*key, phase.value).set(phase == state.phase)
        self.weight.labels(*key).set(state.verified_weight)
        self.desired_weight.labels(*key).set(state.weight)
        self._set_conditions(key, {(found.type, found.status, found.reason) for found in state.conditions})
        self.timeline_pending.labels(*key).set(len(state.timeline.pending))

    def record_change(self, owner: Owner, before: State, after: State) -> None:
        """Count what a new state brings."""
        self.set_gauges(owner, after)
        key = (owner.namespace, owner.name)
        if after.analysis and after.analysis != before.analysis:
            self.verdicts.labels(*key, after.analysis.verdict.value).inc()
        if after.history[:1] != before.history[:1] and after.history:
            self.rollouts.labels(*key, after.history[0].outcome).inc()
        if (dropped := after.timeline.dropped - before.timeline.dropped) > 0:
            self.timeline_events.labels("dropped").inc(dropped)

    def remove(self, owner: Owner) -> None:
        """Drop the gauges of a deleted promotion."""
        for phase in Phase:
            self._drop(self.phase, owner.namespace, owner.name, phase.value)
        self._drop(self.weight, owner.namespace, owner.name)
        self._drop(self.desired_weight, owner.namespace, owner.name)
        self._set_conditions((owner.namespace, owner.name), set())
        self._drop(self.timeline_pending, owner.namespace, owner.name)

    def _set_conditions(self, key: tuple[str, str], current: set[tuple[str, str, str]]) -> None:
        for labels in self._conditions.get(key, set()) - current:
            self.condition.remove(*key, *labels)
        for labels in current:
            self.condition.labels(*key, *labels).set(1)
        self._conditions[key] = current

    @staticmethod
    def _drop(gauge: Gauge, *labels: str) -> None:
        # Creating it first avoids an error for labels that were never set.
        gauge.labels(*labels)
        gauge.remove(*labels)
