"""What is observed at one moment: the input of a decision, next to spec, state and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from promoter.api.approvals import ApprovalSpec
from promoter.api.resource import Auc, TrainingOutcome
from promoter.api.route import Route
from promoter.api.spec import Metric
from promoter.api.timestamps import Timestamp


@dataclass(frozen=True)
class RegistryView:
    """The version that the pointer names; `error` if the registry could not be queried.

    `stable_missing` is set if the registry no longer has the stable version.
    """

    desired: str | None = None
    error: str = ""
    stable_missing: bool = False


@dataclass(frozen=True)
class StableView:
    """The stable Deployment. `rolled_out`: every pod runs its newest template and is available.

    `config_maps` are those of the pod template that hold the version's files. If pods were listed, `waiting` says what
    the first one that is not ready is waiting for, and `outdated` names those of another version than the template's
    that have not ended yet.
    `stalled` says why pods cannot start.
    """

    exists: bool = False
    version: str | None = None
    rolled_out: bool = False
    template: str = ""
    progress: str = ""
    wanted: int = 0
    available: int = 0
    config_maps: tuple[str, ...] = ()
    waiting: str = ""
    stalled: str = ""
    outdated: tuple[str, ...] = ()


@dataclass(frozen=True)
class CanaryView:
    """The canary's Deployment; `version` is None if there is none.

    `ready` counts ready pods of that version. `refused` says why the cluster does not create all of them. `failure` is
    set when waiting cannot help.
    """

    version: str | None = None
    template: str = ""
    replicas: int = 0
    ready: int = 0
    waiting: str = ""
    failure: str = ""
    config_maps: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class AutoscalerView:
    """A HorizontalPodAutoscaler of the stable Deployment.

    `scale_in_disabled`: it does not scale in, because this promotion keeps it from that (`held`) or by its own spec.
    `policy` is the one to restore.
    """

    name: str
    scale_in_disabled: bool
    held: bool
    policy: str


@dataclass(frozen=True)
class PodReading:
    """The metrics of one stable pod; `error` if they could not be read."""

    pod: str
    started_at: float = 0.0
    generation: int | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class CheckAnswer:
    """What the decisions service found, as contracts/check-answer.schema.json has it.

    `value` is None if the decision log does not say; `message` then says why. SQL has no bounds.
    """

    name: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    samples: int = 0
    unit: str = "decisions"
    message: str = ""


@dataclass(frozen=True)
class ApprovalsView:
    """What is known while a pause waits for approvals.

    `found` are the PromotionApprovals for this version, by when they were created (seconds since 1970). `trained_by` is
    None if the registry did not say. `error` is why one of the two could not be read.
    """

    found: tuple[tuple[float, ApprovalSpec], ...] = ()
    trained_by: tuple[str, ...] | None = None
    error: str = ""


@dataclass(frozen=True)
class DriftReport:
    """What is needed of a drift report, as contracts/drift-status.schema.json has it; times in seconds since 1970.

    `until` is the end of the days that it judges.
    """

    version: str
    until: Timestamp
    created_at: Timestamp
    verdict: Literal["steady", "unclear", "drifted"]
    headline: str
    realized_auc: Auc | None = None
    expected_auc: Auc | None = None
    new_outcomes: int | None = None


@dataclass(frozen=True)
class DriftView:
    """The newest drift report of the model, None if there is none; `error` if the service could not be asked."""

    report: DriftReport | None = None
    error: str = ""


@dataclass(frozen=True)
class TrainingView:
    """The Job of the training that runs: whether it was found, and how it ended.

    `found` is None if there is none to look for, or no answer; `outcome` is None while it runs.
    """

    found: bool | None = None
    outcome: TrainingOutcome | None = None
    message: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything a decision depends on, apart from spec, state and time."""

    registry: RegistryView = RegistryView()
    stable: StableView = StableView()
    canary: CanaryView = CanaryView()
    route: Route | None = None
    pods: tuple[PodReading, ...] = ()
    queries: Mapping[str, float | str] = field(default_factory=dict)
    checks: Mapping[Metric, CheckAnswer | str] = field(default_factory=dict)
    action: str = ""
    # Those of the stable Deployment; the error if they could not be listed.
    autoscalers: tuple[AutoscalerView, ...] = ()
    autoscalers_error: str = ""
    # All ConfigMaps in the cluster that hold files of this promotion's versions; the error if they could not be listed.
    artifacts: frozenset[str] = frozenset()
    artifacts_error: str = ""
    approvals: ApprovalsView = ApprovalsView()
    # None: there is no decisions service to ask.
    drift: DriftView | None = None
    # None: the operator may not start trainings.
    training: TrainingView | None = None
