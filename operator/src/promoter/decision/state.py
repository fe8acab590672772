"""A rollout's state, all of it kept in the object's status: a killed operator resumes where it was."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from promoter.api.spec import Base


class Phase(StrEnum):
    """Where a promotion stands. Idle and Failed rest; the others are on the way."""

    INITIALIZING = "Initializing"
    IDLE = "Idle"
    STARTING = "Starting"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    FINISHING = "Finishing"
    STOPPING = "Stopping"
    ROLLING_BACK = "RollingBack"
    FAILED = "Failed"


RESTING = frozenset({Phase.INITIALIZING, Phase.IDLE, Phase.FAILED})
INTERRUPTIBLE = frozenset({Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})


class Verdict(StrEnum):
    """What a judgement says."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


class MetricResult(Base):
    """One metric's judgement, with its numbers."""

    name: str
    verdict: Verdict
    value: float | None = None
    limit: float
    samples: int = Field(default=0, description="The canary's answers that it rests on.")
    message: str


class AnalysisResult(Base):
    """The last judgement."""

    verdict: Verdict
    at: float = Field(description="Seconds since 1970.")
    results: tuple[MetricResult, ...] = ()


class FailedVersion(Base):
    """A version that is not tried again unasked."""

    version: str
    reason: str
    message: str
    at: float = Field(description="Seconds since 1970.")


class HistoryEntry(Base):
    """How one rollout ended."""

    version: str
    outcome: Literal["Promoted", "RolledBack", "Stopped"]
    reason: str
    at: float = Field(description="Seconds since 1970.")


class Event(Base):
    """What people are told."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    at: float = Field(description="Seconds since 1970.")


class Condition(Base):
    """A metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=1024)
    message: str = Field(max_length=32768)
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    observed_generation: int = 0


class RouteState(Base):
    """The route that the stable pods should have."""

    generation: int = 0
    stable_version: str | None = None
    canary_version: str | None = None
    weight: int = 0
    raised_from: int = Field(default=0, description="The weight until `raisedAt`.")
    raised_at: float = Field(default=0.0, description="Seconds since 1970; from then on the weight holds.")
    mode: Literal["live", "shadow"] = "live"

    def in_force(self, now: float) -> bool:
        """Return whether the weight holds already."""
        return now >= self.raised_at


class Window(Base):
    """What was counted since a step began: per pod the last reading, and the sum of all increases."""

    opened_at: float = Field(default=0.0, description="Seconds since 1970.")
    pods: dict[str, dict[str, float]] = Field(default_factory=dict)
    totals: dict[str, float] = Field(default_factory=dict)


class State(Base):
    """The whole status."""

    phase: Phase = Field(default=Phase.INITIALIZING, description="Where the promotion stands.")
    message: str = Field(default="", description="Why it stands there, and what it waits for.")
    observed_generation: int = Field(default=0, description="The spec's generation that this speaks of.")
    target: str | None = Field(default=None, description="The Deployment that this began with; it cannot change.")
    stable_version: str | None = Field(default=None, description="The version that answers.")
    canary_version: str | None = Field(default=None, description="The version that is being tried.")
    desired_version: str | None = Field(default=None, description="The version that the registry points to.")
    step_index: int = Field(default=0, description="The step, counted from 0; a shadow step counts too.")
    step: str = Field(default="", description="The step for people, as in 2/4.")
    weight: int = Field(default=0, description="Percent of the applicants for the canary, as wanted.")
    verified_weight: int = Field(default=0, description="The same, as every stable pod reports it.")
    phase_started_at: float = Field(default=0.0, description="Seconds since 1970.")
    step_started_at: float | None = Field(default=None, description="When every stable pod had the step's weight.")
    analyzed_at: float = Field(default=0.0, description="Seconds since 1970.")
    failures: int = Field(default=0, description="Judgements Failed in this rollout.")
    errors: int = Field(default=0, description="Judgements Error in a row.")
    held: bool = Field(default=False, description="Paused for lack of data, until resumed.")
    analysis: AnalysisResult | None = Field(default=None, description="The last judgement.")
    window: Window = Field(default=Window(), description="What was counted since the step began.")
    route: RouteState = Field(default=RouteState(), description="What the stable pods should do.")
    reason: str = Field(default="", description="Why the rollout ends, while it is being taken back.")
    failed_versions: tuple[FailedVersion, ...] = Field(default=(), description="Not tried again unasked.")
    stable_history: tuple[str, ...] = Field(default=(), description="Former stable versions, newest first.")
    history: tuple[HistoryEntry, ...] = Field(default=(), description="The last ten rollouts, newest first.")
    handled_action: str = Field(default="", description="The action by hand that was handled last.")
    pending_tags: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Tags that the registry has not taken yet, by version.")  # fmt: skip
    pending_events: tuple[Event, ...] = Field(default=(), description="Events that are not recorded yet.")
    conditions: tuple[Condition, ...] = Field(default=(), json_schema_extra={
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})  # fmt: skip

    def failed(self, version: str | None) -> FailedVersion | None:
        """Return how a version failed, None where it did not."""
        return next((entry for entry in self.failed_versions if entry.version == version), None)
