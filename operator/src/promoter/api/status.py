"""The status of a ModelPromotion: the complete state of a rollout, so that a killed operator resumes where it was."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from promoter.api.phases import INTERRUPTIBLE, RESTING, Phase, Verdict
from promoter.api.readings import packed, unpacked
from promoter.api.resource import Approvals, ArtifactsReason, Auc, StatusPart, TrainingOutcome, Trigger
from promoter.api.summary import SUMMARY_LENGTH, summarize
from promoter.api.timestamps import OptionalTimestamp, Timestamp

# Whoever reads a status needs these, too; all other names here are defined here.
__all__ = ["INTERRUPTIBLE", "RESTING", "Phase", "Verdict"]


class MetricResult(StatusPart):
    """The verdict on one metric, with its numbers."""

    name: str
    verdict: Verdict
    value: float | None = None
    limit: float
    lower: float | None = Field(default=None, description=(
        "The value's lower bound; it holds at all looks together, except for the chance `falseRollback`."))  # fmt: skip
    upper: float | None = Field(default=None, description=(
        "The value's upper bound; it holds at all looks together, except for the chance `missedRegression`."
    ))  # fmt: skip
    samples: int = Field(default=0, description="Number of pairs or of the canary's answers behind the value.")
    message: str


class AnalysisResult(StatusPart):
    """The last analysis."""

    verdict: Verdict
    at: Timestamp = Field(description="When it was measured.")
    results: tuple[MetricResult, ...] = ()


class FailedVersion(StatusPart):
    """A version that is not tried again until requested."""

    version: str
    reason: str
    message: str
    at: Timestamp = Field(description="When it failed.")


class Arm(StatusPart):
    """What one arm did with its own applicants during an experiment."""

    answers: int = Field(description="Requests with a good answer.")
    decline_rate: float | None = Field(default=None, description="Share of declined applications.")
    p99_milliseconds: float | None = Field(default=None, description="99th percentile of the latency.")


class Measurement(StatusPart):
    """What an experiment found of one quantity, with bounds."""

    name: str
    value: float
    lower: float
    upper: float
    samples: int = Field(description="Number of pairs or of the challenger's answers behind the value.")
    paired: bool = Field(default=False, description="Whether both models scored the same applicants.")


class ExperimentReport(StatusPart):
    """How an experiment came out; bounds have a confidence of 95 %, those of segments all together."""

    champion_version: str = Field(description="Version that was stable.")
    weight: int = Field(description="Percentage of applicants the challenger answered.")
    started_at: OptionalTimestamp = Field(default=None, description="When every stable pod applied the weight.")
    champion: Arm
    challenger: Arm
    measured: tuple[Measurement, ...] = Field(default=(), description=(
        "Of the challenger, or the challenger's less the champion's."))  # fmt: skip
    segments: tuple[Measurement, ...] = Field(default=(), description=(
        "Rise of the decline rate by segment, the largest first."))  # fmt: skip
    segments_left_out: int = Field(default=0, description="Number of segments that changed less than these.")


Outcome = Literal["Promoted", "RolledBack", "Stopped", "Completed"]


class HistoryEntry(StatusPart):
    """How one rollout ended."""

    version: str
    outcome: Outcome
    reason: str
    at: Timestamp = Field(description="When it ended.")
    report: ExperimentReport | None = Field(default=None, description="What a completed experiment found.")
    approved_by: tuple[str, ...] | None = Field(default=None, description="Who approved it; unset if nobody did.")


class Event(StatusPart):
    """A Kubernetes Event that is not recorded yet."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    at: Timestamp = Field(description="When it happened.")


class Condition(StatusPart):
    """A metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(max_length=1024)
    message: str = Field(max_length=32768)
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    observed_generation: int = 0


class RouteState(StatusPart):
    """The route that the stable pods should apply."""

    RENAMED: ClassVar[dict[str, str]] = {"raisedFrom": "previousWeight", "raisedAt": "effectiveAt"}

    generation: int = 0
    stable_version: str | None = None
    canary_version: str | None = None
    weight: int = 0
    previous_weight: int = Field(default=0, description="The weight until `effectiveAt`.")
    effective_at: OptionalTimestamp = Field(default=None, description="When the weight takes effect; unset: at once.")
    mode: Literal["live", "shadow"] = "live"

    def in_force(self, now: float) -> bool:
        """Return whether the weight has taken effect."""
        return self.effective_at is None or now >= self.effective_at


class InForce(StatusPart):
    """Which versions answer; `weight` is the percentage of applicants that the canary answers, 0 of a shadow."""

    stable_version: str | None = None
    canary_version: str | None = None
    weight: int = 0
    mode: Literal["live", "shadow"] = "live"


TimelineKind = Literal[
    "PointerMoved", "RolloutStarted", "WeightChanged", "Judged", "Promoted", "RolledBack", "Stopped", "Completed",
    "ActedManually", "TrainingStarted", "TrainingEnded",
]  # fmt: skip


class TimelineEntry(InForce):
    """An event for the timeline of the model, with what is in force from then on."""

    id: str
    model: str = Field(description="The registered model.")
    kind: TimelineKind
    at: Timestamp = Field(description="When it was observed.")
    version: str | None = Field(default=None, description="The version that it is about.")
    moved_by: str | None = Field(default=None, description="Who or what moved the pointer, or acted.")
    message: str = ""
    judgment: AnalysisResult | None = None


class TimelineState(StatusPart):
    """What was noted for the decisions service's timeline, and not delivered yet."""

    recorded: InForce | None = Field(default=None, description="What the newest event says is in force.")
    recorded_at: OptionalTimestamp = Field(default=None, description="When the newest event was observed.")
    pending: tuple[TimelineEntry, ...] = Field(default=(), description="Events still to be delivered, oldest first.")
    dropped: int = Field(default=0, description="Number of events that were dropped because too many were pending.")


NotificationKind = Literal[
    "RolloutStarted", "Promoted", "RolledBack", "Stopped", "Completed", "WaitingForPerson", "Degraded", "Recovered"
]


class Notification(StatusPart):
    """What people should be told, and which receivers it is still to be delivered to."""

    id: str
    kind: NotificationKind
    at: Timestamp = Field(description="When it was observed.")
    model: str = Field(description="The registered model.")
    version: str | None = Field(default=None, description="The version that it is about.")
    stable_version: str | None = Field(default=None, description="The stable version from then on.")
    reason: str = ""
    message: str = ""
    judgment: AnalysisResult | None = None
    to: tuple[str, ...] = Field(default=(), description="Receivers that have not got it.")


class KnownProblem(StatusPart):
    """A reason of the condition Degraded."""

    reason: str
    since: Timestamp = Field(description="When it was first observed.")
    announced: bool = Field(default=False, description="Whether there was a notification of it.")


class NotificationsState(StatusPart):
    """What was noted for the receivers of notifications, and not delivered yet."""

    pending: tuple[Notification, ...] = Field(default=(), description="Still to be delivered, oldest first.")
    number: int = Field(default=0, description="Number of the newest notification.")
    problem: KnownProblem | None = Field(default=None, description="The problem that lasts.")


class ArtifactCopy(StatusPart):
    """A version whose files are kept in the cluster."""

    version: str
    digests: dict[str, str] = Field(description="SHA-256 in hex by file, as recorded when the files were copied.")
    config_maps: tuple[str, ...] = Field(description="The immutable ConfigMaps that hold the files.")


class ArtifactsProblem(StatusPart):
    """Why the files of a version are not kept in the cluster."""

    version: str
    reason: ArtifactsReason
    message: str
    since: Timestamp = Field(description="When this reason first occurred.")
    at: Timestamp = Field(description="When it was last tried.")


class Approval(StatusPart):
    """An approval that was counted."""

    user: str = Field(description="Who approved, as the API server knows them.")
    groups: tuple[str, ...] = Field(description="The groups by which they may.")
    comment: str = ""
    at: Timestamp = Field(description="When they approved.")
    step: int = Field(description="Index of the pause, from 0.")

    def describe(self, version: str | None) -> str:
        """Return who approved which version, and the comment."""
        said = f' ("{self.comment}")' if self.comment else ""
        return f"{self.user} approved version {version}{said}"


class ApprovalsState(StatusPart):
    """The approvals of one rollout."""

    asked: tuple[Approvals, ...] = Field(description="What the pauses asked for when the rollout began.")
    given: tuple[Approval, ...] = Field(default=(), description="Approvals, in the order in which they were counted.")
    trained_by: tuple[str, ...] | None = Field(default=None, description=(
        "Who trained the version, as the registry has recorded it; unset until it was asked."))  # fmt: skip


class DriftState(StatusPart):
    """The newest drift report of the model, in short."""

    version: str = Field(description="The version that it is about.")
    until: Timestamp = Field(description="The end of the days that it judges.")
    created_at: Timestamp
    verdict: Literal["steady", "unclear", "drifted"]
    headline: str = Field(description="What it says, in one sentence.")
    drifted_since: OptionalTimestamp = Field(default=None, description=(
        "The end of the days of the first report without a break that found drift; unset if this one did not."
    ))  # fmt: skip
    realized_auc: Auc | None = Field(default=None, description="Unset while too few loans have an outcome.")
    expected_auc: Auc | None = Field(default=None, description=(
        "Of the loans approved in these days, if their probabilities of default are right; unset without any."
    ))  # fmt: skip
    new_outcomes: int | None = Field(default=None, description=(
        "Number of matured loans with an outcome that the version could not learn from; unset if it is not known."
    ))  # fmt: skip


class Training(StatusPart):
    """A training that the operator started."""

    job: str = Field(description="Name of the Job.")
    trigger: Trigger
    reason: str = Field(description="Why it was started, for people; also on the run and the version.")
    started_at: Timestamp
    seen: bool = Field(default=False, description="Whether the Job was seen in the cluster.")
    start_error: str = Field(default="", description="Why the Job could not be created.")
    outcome: TrainingOutcome | None = Field(default=None, description="How it ended; unset while it runs.")
    ended_at: OptionalTimestamp = Field(default=None, description="When that was seen.")
    message: str = ""


class RetrainingState(StatusPart):
    """The trainings that the operator started, and what it waits for."""

    since: Timestamp = Field(description="When the operator first saw `spec.retraining`.")
    trainings: tuple[Training, ...] = Field(default=(), description="The last twenty, newest first.")
    reason: str = Field(default="", description="Reason of the condition Retraining; empty without `spec.retraining`.")
    message: str = ""

    @property
    def running(self) -> Training | None:
        """Return the training that has not ended."""
        return next((training for training in self.trainings if training.outcome is None), None)


class Window(StatusPart):
    """What was counted since a step began: the last reading of each pod, and the sum of all increases.

    A reading has hundreds of counters, and there may be a hundred pods: they are stored compressed, so that the object
    stays far below what an API server stores.
    """

    opened_at: OptionalTimestamp = Field(default=None, description="When the step began.")
    pods: dict[str, dict[str, float]] = Field(default_factory=dict, description=(
        "The last reading of each pod, as older operators wrote it; now in `readings`."))  # fmt: skip
    totals: dict[str, float] = Field(default_factory=dict, description=(
        "The sums; of pairs (`pair/`) since the rollout began."))  # fmt: skip
    readings: str = Field(default="", description="The last reading of each pod: JSON, deflated, in Base64.")

    @model_validator(mode="before")
    @classmethod
    def _unpack(cls, document: Any) -> Any:  # noqa: ANN401 - any JSON
        if not isinstance(document, dict) or not document.get("readings"):
            return document
        return {**document, "pods": unpacked(document["readings"]), "readings": ""}

    @model_serializer(mode="wrap")
    def _pack(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        if pods := document.pop("pods"):
            document["readings"] = packed(pods)
        return document


class State(StatusPart):
    """The observed state of the promotion and of the current rollout."""

    RENAMED: ClassVar[dict[str, str]] = {"held": "pausedForData"}

    phase: Phase = Field(default=Phase.INITIALIZING, description="Where the promotion is.")
    summary: str = Field(default="", description=f"The message in at most {SUMMARY_LENGTH} characters.")
    message: str = Field(default="", description="Why the promotion is in this phase, and what it is waiting for.")
    observed_generation: int = Field(default=0, description="Generation of the spec that this status is based on.")
    target: str | None = Field(default=None, description="The Deployment the promotion was created for.")
    stable_version: str | None = Field(default=None, description="Version served by the stable Deployment.")
    canary_version: str | None = Field(default=None, description="Version being rolled out.")
    desired_version: str | None = Field(default=None, description="Version the pointer in the registry names.")
    step_index: int = Field(default=0, description="Index of the current step, from 0; a shadow phase counts as one.")
    step: str = Field(default="", description="Position of the current step, as in 2/4.")
    weight: int = Field(default=0, description="Desired percentage of applicants the canary answers.")
    verified_weight: int = Field(default=0, description="The weight that every stable pod reports.")
    phase_started_at: OptionalTimestamp = Field(default=None, description="When the phase or step was entered.")
    step_started_at: OptionalTimestamp = Field(default=None, description=(
        "When every stable pod reported the step's weight; the step's clock starts then."))  # fmt: skip
    steps_started_at: OptionalTimestamp = Field(default=None, description=(
        "When the clock of the first step with a weight started."))  # fmt: skip
    analyzed_at: OptionalTimestamp = Field(default=None, description="When the canary was last analyzed.")
    failures: int = Field(default=0, description="Failures in this rollout that count against `failureLimit`.")
    errors: int = Field(default=0, description="Consecutive Error verdicts.")
    paused_for_data: bool = Field(default=False, description="Paused because of insufficient data, until resumed.")
    analysis: AnalysisResult | None = Field(default=None, description="The last analysis of the current step.")
    window: Window = Field(default=Window(), description="What was counted since the step began.")
    route: RouteState = Field(default=RouteState(), description="The route that the stable pods should apply.")
    reason: str = Field(default="", description="Why the rollout is being rolled back or stopped.")
    approvals: ApprovalsState | None = Field(default=None, description=(
        "Approvals of the current or last rollout; unset if none were asked for."))  # fmt: skip
    failed_versions: tuple[FailedVersion, ...] = Field(default=(), description=(
        "Versions that are not tried again until requested (action `retry`)."))  # fmt: skip
    kept_version: str | None = Field(default=None, description=(
        "Former stable version of which a full copy stays ready (blueGreen.keepFor)."))  # fmt: skip
    kept_until: OptionalTimestamp = Field(default=None, description="Until when.")
    completed_version: str | None = Field(default=None, description=(
        "Version whose experiment is complete; not repeated until requested (action `retry`), or the pointer moves."
    ))  # fmt: skip
    stable_history: tuple[str, ...] = Field(default=(), description="Former stable versions, newest first.")
    history: tuple[HistoryEntry, ...] = Field(default=(), description="The last ten rollouts, newest first.")
    handled_action: str = Field(default="", description="The manual action that was handled last.")
    pending_tags: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Tags still to be written to the registry, by version.")  # fmt: skip
    pending_events: tuple[Event, ...] = Field(default=(), description="Events still to be recorded.")
    timeline: TimelineState = Field(default=TimelineState(), description=(
        "Events for the decisions service's timeline; empty unless the operator has its address."))  # fmt: skip
    notifications: NotificationsState = Field(default=NotificationsState(), description=(
        "What people are told; empty unless the operator has receivers."))  # fmt: skip
    artifacts: tuple[ArtifactCopy, ...] = Field(default=(), description=(
        "Versions whose files are kept in the cluster, so that pods start without the registry."))  # fmt: skip
    artifacts_problem: ArtifactsProblem | None = Field(default=None, description="Why a version's files are not kept.")
    drift: DriftState | None = Field(default=None, description="The newest drift report; unset if there is none.")
    retraining: RetrainingState | None = Field(default=None, description="Trainings that the operator started.")
    capacity_low_since: OptionalTimestamp = Field(default=None, description=(
        "Since when fewer stable pods are available than wanted."))  # fmt: skip
    registry_unreachable_since: OptionalTimestamp = Field(default=None, description=(
        "Since when the registry does not answer."))  # fmt: skip
    conditions: tuple[Condition, ...] = Field(default=(), description="Conditions as metav1.Condition.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})  # fmt: skip

    def failed(self, version: str | None) -> FailedVersion | None:
        """Return how a version failed, None if it did not."""
        return next((entry for entry in self.failed_versions if entry.version == version), None)

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, None if there is none yet."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def to_document(self) -> dict[str, Any]:
        """Return the status as it is stored."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return document | {"summary": summarize(self.message)}
