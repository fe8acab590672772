"""The decision in progress: the state so far and the actions so far, with the operations that phases consist of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from promoter.api.route import LEAD_SECONDS
from promoter.api.spec import Spec
from promoter.api.status import (
    AnalysisResult,
    ApprovalsState,
    Event,
    ExperimentReport,
    FailedVersion,
    HistoryEntry,
    Outcome,
    Phase,
    State,
    Window,
)
from promoter.decision.actions import Action
from promoter.decision.observation import Observation

HISTORY_KEPT, FAILED_KEPT, STABLE_KEPT, EVENTS_KEPT = 10, 20, 10, 20
# Why an experiment ended by itself.
COMPLETED: Literal["Completed"] = "Completed"


@dataclass
class Draft:
    """One decision in progress."""

    spec: Spec
    state: State
    observed: Observation
    now: float
    actions: list[Action] = field(default_factory=list)
    # The newest analysis, even if the step that it was made for is over.
    judgment: AnalysisResult | None = None
    # The manual action that was performed.
    performed: str = ""

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the state
        """Change fields of the state."""
        self.state = self.state.model_copy(update=changes)

    def set_message(self, message: str) -> None:
        """State what the promotion is waiting for, or why it stays where it is."""
        self.update(message=message)

    def enter_phase(self, phase: Phase, message: str, **changes: Any) -> None:  # noqa: ANN401
        """Enter a phase."""
        self.update(phase=phase, message=message, phase_started_at=self.now, **changes)

    def add_event(self, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal") -> None:
        """Add an Event; it stays in the state until it is recorded."""
        event = Event(reason=reason, message=message, type=kind, at=self.now)
        self.update(pending_events=(*self.state.pending_events, event)[-EVENTS_KEPT:])

    @property
    def waited(self) -> float:
        """Return the seconds since the phase or step was entered."""
        return self.now - (self.state.phase_started_at or 0.0)

    @property
    def overdue(self) -> bool:
        """Return whether the deadline of the phase or step has passed."""
        return self.waited > self.spec.progress_deadline_seconds

    @property
    def canary_ready(self) -> bool:
        """Return whether at least one pod of the version being rolled out is ready."""
        canary = self.observed.canary
        return canary.version == self.state.canary_version and canary.ready > 0

    @property
    def outcome(self) -> str:
        """Return how the rollout ended, while its canary is being removed."""
        state = self.state
        if state.phase == Phase.FINISHING:
            return f"version {state.stable_version} is stable"
        if state.reason == COMPLETED:
            return f"the experiment with version {state.canary_version} is complete"
        ending = "rollout stopped" if state.phase == Phase.STOPPING else "rollback"
        return f"{ending}: version {state.canary_version} ({state.reason})"

    def pods_without_route(self) -> list[str]:
        """Return the stable pods that do not apply the wanted route yet, each with the reason."""
        generation = self.state.route.generation
        early = [] if self.state.route.in_force(self.now) else ["all stable pods (the weight takes effect shortly)"]
        return early + [
            f"{pod.pod} ({pod.error or f'applies generation {pod.generation}, not {generation}'})"
            for pod in self.observed.pods
            if pod.error or pod.generation != generation
        ]

    @property
    def increase_unseen(self) -> bool:
        """Return whether a larger weight takes effect soon, or should have, and no stable pod has received it.

        That happens when the operator is killed between deciding the weight and writing it.
        """
        route = self.state.route
        seen = any(pod.error or pod.generation == route.generation for pod in self.observed.pods)
        late = self.now > (route.effective_at or 0.0) - LEAD_SECONDS / 2
        return self.state.verified_weight < route.weight and late and not seen

    def begin(self, version: str) -> None:
        """Start the rollout of a version."""
        fresh: dict[str, Any] = {
            "canary_version": version, "step_index": 0, "weight": 0, "step_started_at": None,
            "steps_started_at": None, "failures": 0, "errors": 0,
            "paused_for_data": False, "analysis": None, "window": Window(), "reason": "", "step": "",
            "completed_version": None, "kept_version": None, "kept_until": None,
            "approvals": ApprovalsState(asked=self.spec.approvals) if self.spec.approvals else None,
        }  # fmt: skip
        recent = self.state.stable_history[: self.spec.rollback_window]
        if self.state.stable_version is None:
            self.add_event("Promoting", f"version {version} is the first version: promoted without a canary")
            self.enter_phase(Phase.PROMOTING, f"promoting the first version, {version}", **fresh)
        elif version in recent:
            self.add_event("Promoting", f"version {version} was stable recently: promoted without a canary")
            self.enter_phase(Phase.PROMOTING, f"promoting version {version}, which was stable recently", **fresh)
        else:
            self.add_event("RolloutStarted", f"rolling out version {version}, champion {self.state.stable_version}")
            self.enter_phase(Phase.STARTING, f"starting the canary of version {version}", **fresh)

    def stop(self, reason: str, message: str) -> None:
        """End a rollout without a judgment of its version."""
        self._add_history("Stopped", reason)
        self.add_event(reason, message)
        self.enter_phase(Phase.STOPPING, message, weight=0, reason=reason)

    def complete(self, report: ExperimentReport, summary: str) -> None:
        """End an experiment; its version is neither stable nor failed, and is not tried again by itself."""
        version = self.state.canary_version or ""
        self._add_history(COMPLETED, COMPLETED, report)
        self._tag(version, "completed", summary)
        self.add_event("ExperimentCompleted", summary)
        self.enter_phase(Phase.STOPPING, summary, weight=0, reason=COMPLETED, completed_version=version)

    def roll_back(self, reason: str, message: str) -> None:
        """End a rollout because its version is worse, and remember the version as failed."""
        version = self.state.canary_version or ""
        failed = FailedVersion(version=version, reason=reason, message=message, at=self.now)
        others = tuple(entry for entry in self.state.failed_versions if entry.version != version)
        self._add_history("RolledBack", reason)
        self._tag(version, "rolled-back", f"{reason}: {message}")
        self.add_event(reason, f"rolling back version {version}: {message}", "Warning")
        self.enter_phase(
            Phase.ROLLING_BACK, message, weight=0, reason=reason, failed_versions=(failed, *others)[:FAILED_KEPT]
        )

    def finish(self) -> None:
        """Record the promoted version as the stable one."""
        version, old = self.state.canary_version or "", self.state.stable_version
        former = tuple(v for v in (old, *self.state.stable_history) if v and v != version)[:STABLE_KEPT]
        self._add_history("Promoted", "Promoted")
        self._tag(version, "promoted", f"promoted after {old}" if old else "promoted as the first version")
        self.add_event("Promoted", f"version {version} is stable" + (f", after {old}" if old else ""))
        failed = tuple(entry for entry in self.state.failed_versions if entry.version != version)
        self.enter_phase(Phase.FINISHING, f"version {version} is stable; deleting the canary", weight=0,
                         stable_version=version, stable_history=former, failed_versions=failed, step="")  # fmt: skip

    def _add_history(self, outcome: Outcome, reason: str, report: ExperimentReport | None = None) -> None:
        approvals = self.state.approvals
        users = tuple(dict.fromkeys(approval.user for approval in approvals.given)) if approvals else ()
        version = self.state.canary_version or ""
        entry = HistoryEntry(version=version, outcome=outcome, reason=reason, at=self.now, report=report,
                             approved_by=users or None)  # fmt: skip
        self.update(history=(entry, *self.state.history)[:HISTORY_KEPT])

    def _tag(self, version: str, outcome: str, reason: str) -> None:
        tags = {"creditrisk.io.rollout": outcome, "creditrisk.io.rollout-reason": reason[:1000]}
        self.update(pending_tags={**self.state.pending_tags, version: tags})
