"""What a decision asks for. Every action is idempotent: a restarted operator repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promoter.api.route import Route


@dataclass(frozen=True)
class ApplyRoute:
    """Write this route for the stable pods."""

    route: Route


@dataclass(frozen=True)
class ApplyCanary:
    """Create or update the canary's Deployment and Service, from the stable pods' template and this version.

    `config_maps` hold the version's files; without them its pods ask the registry.
    """

    version: str
    replicas: int
    config_maps: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeleteCanary:
    """Delete the canary's Deployment and Service."""


@dataclass(frozen=True)
class SetStableVersion:
    """Make the stable Deployment serve this version; `config_maps` as for the canary."""

    version: str
    config_maps: tuple[str, ...] = ()


@dataclass(frozen=True)
class DisableScaleIn:
    """Keep an autoscaler from scaling the stable pods in; `policy` is recorded, to be restored later."""

    autoscaler: str
    policy: str


@dataclass(frozen=True)
class RestoreScaleIn:
    """Let an autoscaler scale in again, by the policy that it had before."""

    autoscaler: str
    policy: str


@dataclass(frozen=True)
class KeepArtifacts:
    """Copy a version's files from the registry into the cluster."""

    version: str


@dataclass(frozen=True)
class DeleteArtifacts:
    """Delete ConfigMaps whose versions no pod can need anymore."""

    config_maps: tuple[str, ...]


@dataclass(frozen=True)
class TagVersion:
    """Write tags on a version in the registry."""

    version: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ClearAction:
    """Remove the annotation of a handled manual action, unless its value has changed."""

    value: str


@dataclass(frozen=True)
class StartTraining:
    """Create a Job from a CronJob's template, unless it exists; it may take `max_seconds`."""

    job: str
    cron_job: str
    reason: str
    max_seconds: float


Action = (
    ApplyRoute | ApplyCanary | DeleteCanary | SetStableVersion | DisableScaleIn | RestoreScaleIn | KeepArtifacts
    | DeleteArtifacts | TagVersion | ClearAction | StartTraining
)  # fmt: skip
