"""A batch: groups of a segment whose events were checked, ready to be shipped in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from decisions.errors import DamagedError
from decisions.records.build import Scorer, SeededEvent, problem_of_values
from decisions.records.model_versions import ModelVersion
from decisions.segments.events import Event, Shape, decode_events, joined, problem_of
from decisions.segments.reader import DamagedGroup, Group, SegmentReader, SegmentVersion

# About a third of a second of Postgres; a group may have more.
BATCH_DECISIONS = 5_000
BATCH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class CheckedGroup:
    """A group: its events that can be shipped, and what is wrong with the rest of it."""

    number: int
    events: list[SeededEvent]
    problems: list[str] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        """How many decisions can be shipped."""
        return sum(seeded.event.count for seeded in self.events)

    @property
    def last_id(self) -> bytes:
        """The id of its last decision; it has one."""
        return self.events[-1].event.last_id


class Scorers:
    """The model versions of a segment by their keys, each read once."""

    def __init__(self, reader: SegmentReader) -> None:
        """Take the segment that has them."""
        self._reader = reader
        self._scorers: dict[int, Scorer] = {}
        self._shapes: dict[int, Shape] = {}
        self._broken: dict[int, str] = {}

    def check(self, group: Group) -> CheckedGroup:
        """Return what of a group can be shipped."""
        try:
            events, problems = decode_events(group.events)
        except DamagedError as error:
            return CheckedGroup(group.number, [], [str(error)])
        if any(event.version not in self._shapes for event in events):
            self._read()
        possible = self._possible(events)
        taken: list[SeededEvent] = []
        for event in events:
            if problem := self._problem(event, possible=possible):
                problems.append(f"the event of request {next(iter(event.request_ids), None)!r}: {problem}")
            else:
                taken.append(SeededEvent(event, group.seed, self._scorers[event.version]))
        found = sum(event.count for event in events)
        if found != group.decisions and not problems:
            problems.append(f"it has {found} decisions and says {group.decisions}")
        return CheckedGroup(group.number, taken, problems)

    def _possible(self, events: Sequence[Event]) -> bool:
        """Return whether the values of all events are possible, which costs a tenth of asking each."""
        if any(event.version in self._broken or problem_of(event, self._shapes) for event in events):
            return False
        return not any(
            problem_of_values(joined(own), self._scorers[version].contract)
            for version in {event.version for event in events}
            if (own := [event for event in events if event.version == version])
        )

    def _problem(self, event: Event, *, possible: bool) -> str | None:
        if possible:
            return None
        if cause := self._broken.get(event.version):
            return f"version {event.version}: {cause}"
        return problem_of(event, self._shapes) or problem_of_values(event, self._scorers[event.version].contract)

    def _read(self) -> None:
        for version in self._reader.versions():
            if version.key in self._shapes:
                continue
            try:
                scorer = _scorer(version)
                self._shapes[version.key] = scorer.contract.shape
                self._scorers[version.key] = scorer
            except DamagedError as error:
                self._broken[version.key] = str(error)


def batches(reader: SegmentReader, scorers: Scorers, after: int) -> Iterator[list[CheckedGroup]]:
    """Yield the groups that a segment has now after one, in batches of a bounded size."""
    batch: list[CheckedGroup] = []
    decisions = size = 0
    for group in reader.groups(after):
        if isinstance(group, DamagedGroup):
            batch.append(CheckedGroup(group.number, [], [group.cause]))
            continue
        if batch and (decisions + group.decisions > BATCH_DECISIONS or size + len(group.events) > BATCH_BYTES):
            yield batch
            batch, decisions, size = [], 0, 0
        batch.append(scorers.check(group))
        decisions, size = decisions + batch[-1].decisions, size + len(group.events)
    if batch:
        yield batch


def events_of(groups: Iterable[CheckedGroup]) -> list[SeededEvent]:
    """Return the events of all groups."""
    return [event for group in groups for event in group.events]


def _scorer(version: SegmentVersion) -> Scorer:
    try:
        digests = msgspec.json.decode(version.digests, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise DamagedError(f"its digests are not a JSON object of texts: {error}") from error
    return Scorer(ModelVersion(version.name, version.version, digests, version.contract))
