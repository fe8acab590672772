"""What the page knows of one ModelPromotion: as last seen, how its checks developed, and what happened to it.

Checks and events are kept in memory only, and begin anew when the operator starts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from promoter.api.resource import Owner
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import Spec
from promoter.api.status import (
    RESTING,
    NotificationsState,
    State,
    TimelineEntry,
    TimelineState,
    Window,
)
from promoter.decision.timeline import Origin, Turn, note_changes
from promoter.page.series import Point, extended
from promoter.ports import Document, Snapshot

EVENTS_KEPT = 60


class Subject(Protocol):
    """A ModelPromotion in the operator's memory; `promoter.promotion` has it."""

    @property
    def owner(self) -> Owner:
        """Return its identity."""

    @property
    def document(self) -> Document:
        """Return the object as last seen."""

    @property
    def state(self) -> State:
        """Return its state as last decided."""

    @property
    def action_by(self) -> str | None:
        """Return who asked for the manual action, None if that is not recorded."""


@dataclass(frozen=True)
class Facts:
    """What a page shows of a ModelPromotion; two that are equal look the same.

    Attributes:
        written: The spec as users wrote it.
        state: The status as last decided, without what only the operator needs.
        snapshot: Deployments and pods as last observed; pods only in a rollout, and while some are unavailable.
    """

    written: Any
    state: State
    snapshot: Snapshot | None = None

    @classmethod
    def of(cls, promotion: Subject, snapshot: Snapshot | None = None) -> Facts:
        """Return what is shown of a promotion."""
        hidden = {"window": Window(), "timeline": TimelineState(), "notifications": NotificationsState(),
                  "pending_tags": {}, "pending_events": ()}  # fmt: skip
        return cls(promotion.document.get("spec"), promotion.state.model_copy(update=hidden), snapshot)

    @cached_property
    def spec(self) -> Spec | InvalidSpecError:
        """Return the spec, or what is wrong with it."""
        try:
            return parse_spec(self.written, self.state.target)
        except InvalidSpecError as error:
            return error


class Record:
    """A ModelPromotion with what was noted of it.

    Attributes:
        facts: As it was shown last.
        events: The newest first.
        series: The results of each check since the rollout began, the newest last.
    """

    def __init__(self, promotion: Subject) -> None:
        """Take a promotion that the operator has just learned of."""
        self.facts = Facts.of(promotion)
        self.events: deque[TimelineEntry] = deque(maxlen=EVENTS_KEPT)
        self.series: dict[str, list[Point]] = {}
        self._noted = TimelineState()
        self._snapshot: Snapshot | None = None

    def take_turn(self, promotion: Subject, before: State, turn: Turn, snapshot: Snapshot, now: float) -> None:
        """Take what a turn observed and decided at a time, in seconds since 1970; `before` is the state before it."""
        # The Deployment is large, and not shown.
        self._snapshot = replace(snapshot, deployment={}, artifacts=frozenset(), route=None)
        known = before.model_copy(update={"timeline": self._noted})
        origin = Origin(str(promotion.owner), "", None, promotion.action_by)
        noted = note_changes(known, turn, origin, now).timeline
        self.events.extendleft(noted.pending)
        self._noted = noted.model_copy(update={"pending": ()})
        if before.phase in RESTING and turn.state.phase not in RESTING:
            self.series = {}
        if turn.judgment:
            self.series = extended(self.series, turn.judgment)

    def update(self, promotion: Subject) -> bool:
        """Take a promotion as it is after a turn or a change, and return whether it looks different.

        An event and an analysis never come without a change of the state.
        """
        before, self.facts = self.facts, Facts.of(promotion, self._snapshot)
        return before != self.facts
