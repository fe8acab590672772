"""What is observed at one moment: the input of a decision, next to spec, state and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from promoter.api.route import Route


@dataclass(frozen=True)
class RegistryView:
    """The version that the pointer names; `error` if the registry could not be queried."""

    desired: str | None = None
    error: str = ""


@dataclass(frozen=True)
class StableView:
    """The stable Deployment. `rolled_out`: every pod runs its newest template and is available."""

    exists: bool = False
    version: str | None = None
    rolled_out: bool = False
    template: str = ""
    progress: str = ""


@dataclass(frozen=True)
class CanaryView:
    """The canary's Deployment; `version` is None if there is none.

    `ready` counts ready pods of that version. `failure` is set when waiting cannot help.
    """

    version: str | None = None
    template: str = ""
    replicas: int = 0
    ready: int = 0
    waiting: str = ""
    failure: str = ""


@dataclass(frozen=True)
class PodReading:
    """The metrics of one stable pod; `error` if they could not be read."""

    pod: str
    started_at: float = 0.0
    generation: int | None = None
    counters: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything a decision depends on, apart from spec, state and time."""

    registry: RegistryView = RegistryView()
    stable: StableView = StableView()
    canary: CanaryView = CanaryView()
    route: Route | None = None
    pods: tuple[PodReading, ...] = ()
    queries: Mapping[str, float | str] = field(default_factory=dict)
    action: str = ""
