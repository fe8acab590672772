"""The route: the document by which the stable pods learn who answers whom."""

from __future__ import annotations

from typing import Literal

from promoter.api.spec import Base


class CanaryRoute(Base):
    """Where the canary's share goes; in percent of the applicants: `raised_from` until `raised_at`, then `weight`.

    Pods learn of a new route one after the other. A weight that grows at an agreed time grows in all of them at once,
    so that nobody who was answered by the canary is sent back by a pod that has not heard of it.
    """

    version: str
    url: str
    weight: int
    raised_from: int
    raised_at: float
    mode: Literal["live", "shadow"]
    deadline_milliseconds: int


class StableRoute(Base):
    """The version that a pod without one of its own serves."""

    version: str


class Route(Base):
    """The whole document."""

    generation: int
    salt: str
    stable: StableRoute | None = None
    canary: CanaryRoute | None = None

    def to_json(self) -> str:
        """Return the document as it stands in the ConfigMap."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def canary_name(target: str) -> str:
    """Return the name of a target's canary Deployment and Service."""
    return f"{target}-canary"


def route_name(target: str) -> str:
    """Return the name of a target's route ConfigMap."""
    return f"{target}-route"
