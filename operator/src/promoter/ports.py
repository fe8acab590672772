"""What the reconciler needs of the world, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from promoter.api.route import Route
from promoter.api.spec import ModelRef
from promoter.decision.observation import CanaryView, PodReading, StableView
from promoter.decision.state import Event

Document = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """The ModelPromotion that something is done for."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Pod:
    """A running pod of the stable Deployment."""

    name: str
    address: str
    management_port: int
    ready: bool
    started_at: float
    route_generation: int | None


@dataclass(frozen=True)
class Snapshot:
    """What the cluster holds of one promotion."""

    stable: StableView = field(default_factory=StableView)
    canary: CanaryView = field(default_factory=CanaryView)
    route: Route | None = None
    stable_pods: tuple[Pod, ...] = ()
    canary_pods: tuple[Pod, ...] = ()
    deployment: Document = field(default_factory=dict)


class Cluster(Protocol):
    """The Kubernetes API."""

    async def snapshot(self, owner: Owner, target: str, *, with_pods: bool) -> Snapshot:
        """Return what there is."""

    async def save_status(self, owner: Owner, status: Document) -> None:
        """Replace the whole status."""

    async def apply_route(self, owner: Owner, target: str, route: Route) -> None:
        """Have the route's ConfigMap."""

    async def nudge(self, owner: Owner, pods: tuple[Pod, ...], generation: int) -> None:
        """Let the kubelets of these pods sync their volumes now."""

    async def apply_canary(self, owner: Owner, stable: Document, version: str, replicas: int) -> None:
        """Have the canary's Deployment and Service."""

    async def delete_canary(self, owner: Owner, target: str) -> None:
        """Have neither."""

    async def set_stable_version(self, owner: Owner, target: str, version: str) -> None:
        """Have the stable pods serve a version."""

    async def clear_action(self, owner: Owner, value: str) -> None:
        """Take the annotation of a handled action away, if it still says this."""

    async def emit(self, owner: Owner, event: Event) -> None:
        """Record an Event on the ModelPromotion; one that is recorded already stays as it is."""


class Registry(Protocol):
    """The model registry."""

    async def desired(self, model: ModelRef) -> str | None:
        """Return the version that the pointer names, None where it names none."""

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Write tags on a version."""


class Metrics(Protocol):
    """What pods and Prometheus tell."""

    async def read(self, pod: Pod, stable: str | None, canary: str | None) -> PodReading:
        """Read a stable pod's counters of both arms."""

    async def not_ready_reason(self, pod: Pod) -> str:
        """Return why a pod says that it is not ready, "" where it says nothing."""

    async def contract(self, pod: Pod) -> Document:
        """Return the contract of the model that a pod serves."""

    async def query(self, url: str, query: str) -> float | str:
        """Return a query's number, or why there is none."""
