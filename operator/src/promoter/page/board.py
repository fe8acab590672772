"""What the operator shows: it takes every turn, and keeps one topic per ModelPromotion and one for the list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from promoter.api.resource import Owner
from promoter.api.status import State
from promoter.decision.timeline import Turn
from promoter.page.document import picture
from promoter.page.index_view import index_picture, summary
from promoter.page.promotion_view import announcement, promotion_picture
from promoter.page.records import Record
from promoter.page.streams import Topic
from promoter.ports import Snapshot
from promoter.promotion import Promotion

Key = tuple[str, str]


class _Shown:
    """A ModelPromotion with its topic."""

    def __init__(self, owner: Owner, record: Record, topic: Topic) -> None:
        self.owner, self.record, self.topic = owner, record, topic


class Board:
    """Everything that is shown, and who follows it."""

    def __init__(self, clock: Callable[[], float], root: str) -> None:
        """Take the time in seconds since 1970, and the path of the pages, without a slash at the end."""
        self._clock, self.root = clock, root
        self._shown: dict[Key, _Shown] = {}
        self.index = Topic(self.index_markup)
        # An operator that stands by watches nothing, so it has nothing to show.
        self.opened = False

    def turned(self, promotion: Promotion, before: State, turn: Turn, snapshot: Snapshot) -> None:
        """Take what a turn observed and decided; `before` is the state before it."""
        if shown := self._shown.get(_key(promotion.owner)):
            shown.record.take_turn(promotion, before, turn, snapshot, self._clock())

    def show(self, promotion: Promotion) -> None:
        """Take a promotion as it is now; those who follow it are told if it looks different."""
        key = _key(promotion.owner)
        shown = self._shown.get(key)
        if shown is None:
            topic = Topic(partial(self.markup, key))
            self._shown[key] = _Shown(promotion.owner, Record(promotion), topic)
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

    def index_markup(self) -> str:
        """Return the picture of the list."""
        listed = [(shown.owner, shown.record.facts) for shown in self._shown.values()]
        return picture(index_picture(listed, self.root), self._clock(), summary(listed))

    def markup(self, key: Key) -> str:
        """Return the picture of one promotion."""
        record, now = self._shown[key].record, self._clock()
        return picture(promotion_picture(record, now), now, announcement(record.facts))


def _key(owner: Owner) -> Key:
    return owner.namespace, owner.name
