"""What the operator shows: it takes every turn, and keeps one topic per ModelPromotion and one for the list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from promoter.api.resource import Owner
from promoter.api.status import State
from promoter.decision.timeline import Turn
from promoter.page.document import picture
from promoter.page.html import Html
from promoter.page.index_view import index_picture, summary
from promoter.page.promotion_view import announcement, promotion_picture
from promoter.page.records import Record, Subject
from promoter.page.streams import Topic
from promoter.ports import Snapshot

Key = tuple[str, str]


@dataclass(frozen=True)
class _Shown:
    """A ModelPromotion with its topic."""

    owner: Owner
    record: Record
    topic: Topic


class Board:
    """Everything that is shown, and who follows it."""

    def __init__(self, clock: Callable[[], float], root: str) -> None:
        """Take the time in seconds since 1970, and the path of the pages, without a slash at the end."""
        self._clock, self.root = clock, root
        self._shown: dict[Key, _Shown] = {}
        self.index = Topic(self._index)
        # An operator that stands by watches nothing, so it has nothing to show.
        self.opened = False

    def turned(self, promotion: Subject, before: State, turn: Turn, snapshot: Snapshot) -> None:
        """Take what a turn observed and decided; `before` is the state before it."""
        if shown := self._shown.get(_key(promotion.owner)):
            shown.record.take_turn(promotion, before, turn, snapshot, self._clock())

    def show(self, promotion: Subject) -> None:
        """Take a promotion as it is now; those who follow it are told if it looks different."""
        key = _key(promotion.owner)
        shown = self._shown.get(key)
        if shown is None:
            record = Record(promotion)
            self._shown[key] = _Shown(promotion.owner, record, Topic(partial(self._picture, record)))
            self.index.touch()
            return
        if shown.record.update(promotion):
            shown.topic.touch()
            self.index.touch()

    def forget(self, owner: Owner) -> None:
        """Drop a deleted promotion."""
        if shown := self._shown.pop(_key(owner), None):
            shown.topic.end(deleted=True)
            self.index.touch()

    def topic(self, namespace: str, name: str) -> Topic | None:
        """Return the topic of a promotion, None if there is no such promotion."""
        found = self._shown.get((namespace, name))
        return found.topic if found else None

    def close(self) -> None:
        """Let all who follow go."""
        for topic in (self.index, *(shown.topic for shown in self._shown.values())):
            topic.end()

    def _index(self) -> Html:
        listed = [(shown.owner, shown.record.facts) for shown in self._shown.values()]
        return picture(index_picture(listed, self.root), self._clock(), summary(listed))

    def _picture(self, record: Record) -> Html:
        now = self._clock()
        return picture(promotion_picture(record, now), now, announcement(record.facts))


def _key(owner: Owner) -> Key:
    return owner.namespace, owner.name
