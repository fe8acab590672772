"""The route: the document that tells the stable pods which applicants the canary answers.

Schema: contracts/route.schema.json.
"""

from __future__ import annotations

from typing import Literal

from promoter.api.resource import Base

# How far ahead a larger weight is announced. A nudged kubelet needs 0.2 s to sync, a few seconds on a crowded node.
LEAD_SECONDS = 5.0


class CanaryRoute(Base):
    """The canary and its share, in percent of the applicants: `previous_weight` until `effective_at`, then `weight`.

    Pods receive a new route one after the other. Because a larger weight takes effect at an agreed time, it does so in
    all of them at once, and no applicant answered by the canary is sent back by a pod with the old route.
    """

    version: str
    url: str
    weight: int
    previous_weight: int
    # Seconds since 1970, as a number: the document is read on the request path.
    effective_at: float
    mode: Literal["live", "shadow"]
    deadline_milliseconds: int


class StableRoute(Base):
    """The version served by a pod that has none of its own."""

    version: str


class Route(Base):
    """The whole document."""

    generation: int
    salt: str
    stable: StableRoute | None = None
    canary: CanaryRoute | None = None

    def to_json(self) -> str:
        """Return the document as it is stored in the ConfigMap."""
        return self.model_dump_json(by_alias=True, exclude_none=True)
