"""What the operator needs from other systems, as protocols; the adapters implement them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from promoter.api.approvals import ApprovalSpec
from promoter.api.resource import Owner
from promoter.api.route import Route
from promoter.api.spec import ModelRef
from promoter.api.status import Event
from promoter.decision.actions import ApplyCanary, SetStableVersion, StartTraining
from promoter.decision.observation import (
    AutoscalerView,
    CanaryView,
    CheckAnswer,
    DriftReport,
    DriftView,
    PodReading,
    StableView,
    TrainingView,
)
from promoter.decision.readiness import Readiness

Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod of the stable or canary Deployment."""

    name: str
    address: str
    management_port: int
    ready: bool
    started_at: float
    route_generation: int | None


# How a training run ended: refused is one whose model did not pass a gate.
RunStatus = Literal["finished", "failed", "refused", "running"]


@dataclass(frozen=True)
class VersionFiles:
    """A version's files, verified, and what a pod needs to know of the version.

    Attributes:
        name: The registered model.
        version: The version.
        run_id: The training run that made it.
        digests: SHA-256 in hex by file name, from the version's tags.
        metrics: Test metrics by name, from the version's tags.
        content: The files by name.
    """

    name: str
    version: str
    run_id: str
    digests: dict[str, str]
    metrics: dict[str, float]
    content: dict[str, bytes]


@dataclass(frozen=True)
class ScaleInHold:
    """An autoscaler that is kept from scaling in: by the ModelPromotion with this uid, and the policy to restore."""

    namespace: str
    autoscaler: str
    uid: str
    policy: str


@dataclass(frozen=True)
class Snapshot:
    """What the cluster has of one promotion."""

    stable: StableView = field(default_factory=StableView)
    canary: CanaryView = field(default_factory=CanaryView)
    route: Route | None = None
    stable_pods: tuple[Pod, ...] = ()
    canary_pods: tuple[Pod, ...] = ()
    deployment: Document = field(default_factory=dict)
    artifacts: frozenset[str] = frozenset()
    artifacts_error: str = ""
    autoscalers: tuple[AutoscalerView, ...] = ()
    autoscalers_error: str = ""


class Cluster(Protocol):
    """The Kubernetes API. Every method may raise RetryableError or PermanentError."""

    async def snapshot(self, owner: Owner, target: str, *, with_pods: bool) -> Snapshot:
        """Return the current objects of a promotion."""

    async def save_status(self, owner: Owner, status: Document) -> None:
        """Replace the whole status."""

    async def apply_route(self, owner: Owner, target: str, route: Route) -> None:
        """Create or update the route's ConfigMap."""

    async def nudge(self, owner: Owner, pods: tuple[Pod, ...], generation: int) -> None:
        """Make the kubelets of these pods sync their volumes now."""

    async def apply_canary(self, owner: Owner, stable: Document, canary: ApplyCanary) -> None:
        """Create or update the canary's Deployment and Service."""

    async def delete_canary(self, owner: Owner, target: str) -> None:
        """Delete the canary's Deployment and Service."""

    async def set_stable_version(self, owner: Owner, stable: Document, wanted: SetStableVersion) -> None:
        """Make the stable pods serve a version."""

    async def disable_scale_in(self, owner: Owner, name: str, policy: str) -> None:
        """Keep an autoscaler from scaling in, and record the policy to restore."""

    async def restore_scale_in(self, namespace: str, name: str, policy: str) -> None:
        """Let an autoscaler scale in again, by this policy."""

    async def keep_artifacts(self, owner: Owner, target: str, files: VersionFiles) -> tuple[str, ...]:
        """Create the ConfigMaps that hold a version's files, and return their names.

        Raises:
            RetryableError: the API server did not answer.
            PermanentError: it refused them.
        """

    async def delete_artifacts(self, owner: Owner, names: tuple[str, ...]) -> None:
        """Delete ConfigMaps."""

    async def clear_action(self, owner: Owner, value: str) -> None:
        """Remove the annotation of a handled action, unless its value has changed."""

    async def record_event(self, owner: Owner, event: Event) -> None:
        """Record an Event on the ModelPromotion; recording it again changes nothing."""


class ApprovalReader(Protocol):
    """PromotionApprovals, which the webhook has checked. Every method may raise RetryableError or PermanentError."""

    async def approvals(self, owner: Owner, version: str) -> tuple[tuple[float, ApprovalSpec], ...]:
        """Return the approvals of a version with the times at which they were created, in seconds since 1970."""


class Registry(Protocol):
    """The model registry. Every method may raise RetryableError or PermanentError."""

    async def desired_version(self, model: ModelRef) -> str | None:
        """Return the version that the pointer names, None if it names none."""

    async def version_exists(self, model: str, version: str) -> bool:
        """Return whether the registry has a version."""

    async def moved_by(self, model: ModelRef, version: str | None) -> str | None:
        """Return who moved the pointer to a version, None if that is not recorded."""

    async def trained_by(self, model: str, version: str) -> tuple[str, ...]:
        """Return who trained a version and who registered it, as far as that is recorded."""

    async def download(self, model: str, version: str) -> VersionFiles:
        """Return a version's files, verified against its tags.

        Raises:
            RetryableError: the registry did not answer.
            ArtifactsError: they are too large to be kept, not those of the tags, or gone.
            PermanentError: the registry refused.
        """

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Write tags on a version."""


class Metrics(Protocol):
    """The scoring pods and Prometheus. Errors are part of the results."""

    async def read(self, pod: Pod, stable: str | None, canary: str | None) -> PodReading:
        """Return a stable pod's counters for both arms."""

    async def readiness(self, pod: Pod) -> Readiness:
        """Return what a pod answers on /readyz."""

    async def contract(self, pod: Pod) -> Document:
        """Return the contract of the model that a pod serves, {} if it is unavailable."""

    async def query(self, url: str, query: str) -> float | str:
        """Return the number of a PromQL query, or why there is none."""


class Checks(Protocol):
    """The decisions service, which measures in the decision log."""

    async def check(self, request: Document) -> CheckAnswer | str:
        """Return what it found, or why there is nothing; the request is as contracts/check-request.schema.json."""


class DriftReports(Protocol):
    """The decisions service, which keeps drift reports."""

    async def newest(self, model: str) -> DriftReport | None:
        """Return the newest report about a model, None if there is none.

        Raises:
            RetryableError: there was no answer, or no valid one.
        """


class DriftViews(Protocol):
    """What is known of drift, without asking anybody."""

    def view(self, model: str) -> DriftView:
        """Return the newest report as last known; an error if the last attempt failed, or there was none."""


class Trainings(Protocol):
    """Training Jobs. Every method may raise RetryableError or PermanentError."""

    async def start(self, owner: Owner, wanted: StartTraining) -> None:
        """Start a training; starting it again changes nothing."""

    async def find(self, owner: Owner, job: str) -> TrainingView:
        """Return what became of a training."""
