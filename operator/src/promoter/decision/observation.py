"""What is seen of the world at one moment, and what may be done to it: the decision's input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from promoter.api.route import Route


@dataclass(frozen=True)
class RegistryView:
    """The pointer as the registry gives it; `error` where the registry could not be asked."""

    desired: str | None = None
    error: str = ""


@dataclass(frozen=True)
class StableView:
    """The Deployment that answers. `rolled_out`: every pod is of its newest template and available."""

    exists: bool = False
    version: str | None = None
    rolled_out: bool = False
    template: str = ""
    progress: str = ""


@dataclass(frozen=True)
class CanaryView:
    """The canary's Deployment; `version` is None where there is none.

    `ready` counts ready pods of that version. `failure` is set where waiting cannot help.
    """

    version: str | None = None
    template: str = ""
    replicas: int = 0
    ready: int = 0
    waiting: str = ""
    failure: str = ""


@dataclass(frozen=True)
class PodReading:
    """One stable pod's /metrics; `error` where they could not be read."""

    pod: str
    started_at: float = 0.0
    generation: int | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything that a decision rests on, apart from spec, state and clock."""

    registry: RegistryView = RegistryView()
    stable: StableView = StableView()
    canary: CanaryView = CanaryView()
    route: Route | None = None
    pods: tuple[PodReading, ...] = ()
    queries: Mapping[str, float | str] = field(default_factory=dict)
    action: str = ""


@dataclass(frozen=True)
class ApplyRoute:
    """Give the stable pods this route."""

    route: Route


@dataclass(frozen=True)
class ApplyCanary:
    """Have the canary's Deployment and Service, of this version and the stable pods' template."""

    version: str
    replicas: int


@dataclass(frozen=True)
class DeleteCanary:
    """Have no canary."""


@dataclass(frozen=True)
class SetStableVersion:
    """Have the stable Deployment serve this version."""

    version: str


@dataclass(frozen=True)
class TagVersion:
    """Write tags on a version in the registry."""

    version: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ClearAction:
    """Take the handled annotation away, if it still says this."""

    value: str


Action = ApplyRoute | ApplyCanary | DeleteCanary | SetStableVersion | TagVersion | ClearAction
