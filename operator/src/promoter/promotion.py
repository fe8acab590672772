"""One ModelPromotion in the operator's memory, and the adapters that its turns use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from promoter.api.resource import ACTION_ANNOTATION, Owner
from promoter.api.rules import target_of
from promoter.api.status import State
from promoter.decision.timeline import Turn
from promoter.notifications.delivery import Notifier
from promoter.outbox import Outbox
from promoter.poll import Poller
from promoter.ports import ApprovalReader, Checks, Cluster, DriftViews, Metrics, Registry, Snapshot, Trainings
from promoter.telemetry import Telemetry

Document = dict[str, Any]


@dataclass
class Promotion:
    """A ModelPromotion as last seen, and its state as last decided."""

    owner: Owner
    document: Document
    state: State
    # The stored status has another form than the one this operator writes.
    rewrite_status: bool = False
    # The older ModelPromotion with the same target; empty if there is none.
    target_holder: str = ""
    # What the API server refused in the last turn.
    refusal: str = ""
    # Consecutive turns in which another system did not answer.
    faults: int = 0

    @property
    def generation(self) -> int:
        """Return the generation of the spec."""
        return int(self.document["metadata"].get("generation", 0))

    @property
    def action(self) -> str:
        """Return the manual action that the annotation asks for."""
        return str((self.document["metadata"].get("annotations") or {}).get(ACTION_ANNOTATION, ""))

    @property
    def action_by(self) -> str | None:
        """Return which program wrote the annotation, as the API server knows it; None if that is not recorded."""
        for entry in self.document["metadata"].get("managedFields") or ():
            annotations = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations") or {}
            if f"f:{ACTION_ANNOTATION}" in annotations:
                return f"annotation by {entry.get('manager', 'unknown')}"
        return None

    @property
    def model(self) -> str:
        """Return the registered model, even if the spec is invalid; the promotion's own name if it names none."""
        spec = self.document.get("spec")
        model = spec.get("model") if isinstance(spec, dict) else None
        name = model.get("name") if isinstance(model, dict) else None
        return str(name or self.owner.name)

    @property
    def target(self) -> str:
        """Return the Deployment that this promotion is for, even if its spec is invalid."""
        return self.state.target or target_of(self.document.get("spec"))

    @property
    def age_order(self) -> tuple[str, str]:
        """Return what sorts older promotions first."""
        return str(self.document["metadata"].get("creationTimestamp", "")), self.owner.name


class Audience(Protocol):
    """Who is shown what the operator does; none of these waits for anything."""

    def turned(self, promotion: Promotion, before: State, turn: Turn, snapshot: Snapshot) -> None:
        """Take what a turn observed and decided; `before` is the state before it."""

    def show(self, promotion: Promotion) -> None:
        """Take a promotion as it is now: a new one, one that was changed, or one after a turn."""

    def forget(self, owner: Owner) -> None:
        """Drop a deleted promotion."""


@dataclass(frozen=True)
class Adapters:
    """Everything outside the process that a turn needs."""

    cluster: Cluster
    registry: Registry
    metrics: Metrics
    poller: Poller
    telemetry: Telemetry
    clock: Callable[[], float]
    # None: no timeline.
    outbox: Outbox | None = None
    # None: nobody is told anything.
    notifier: Notifier | None = None
    # None: no page.
    audience: Audience | None = None
    # None: no decision log to judge by.
    checks: Checks | None = None
    # None: the operator may not start trainings.
    trainings: Trainings | None = None
    # None: no drift reports.
    drift: DriftViews | None = None
    # None: nobody checks who approves, so nothing is approved.
    approvals: ApprovalReader | None = None
    # Held while a version's files are in memory: one at a time, however many promotions need a copy.
    copying: asyncio.Lock = field(default_factory=asyncio.Lock)

    def now(self) -> float:
        """Return the seconds since 1970, to the millisecond as the status stores times."""
        return round(self.clock(), 3)
