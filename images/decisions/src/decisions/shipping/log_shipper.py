"""One log: its segments in their order, each group once, and how far that is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decisions.errors import DamagedError
from decisions.records.build import records_of
from decisions.records.model_versions import ModelVersion
from decisions.segments import folder as files
from decisions.segments.folder import LogFolder
from decisions.segments.reader import Group, SegmentReader
from decisions.shipping.batch import CheckedGroup, Scorers, batches, events_of
from decisions.shipping.database import Database, OutOfStepError, RecordedError, RefusedError
from decisions.shipping.metrics import ShipperMetrics
from decisions.shipping.state import read_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """What of a log is not yet in Postgres: the bytes of its events, and when the oldest was decided, as Unix time."""

    bytes: int = 0
    oldest: float | None = None


class LogShipper:
    """Ships a log that this process has claimed.

    Its methods raise AwayError if Postgres cannot take a batch now, UnreadableError if a segment cannot be read now,
    and OSError if the volume cannot be written to. Each can be called again.
    """

    def __init__(self, folder: LogFolder, database: Database, metrics: ShipperMetrics) -> None:
        """Take the log, and where it goes."""
        self.folder = folder
        self._database, self._metrics = database, metrics
        self._state = read_state(folder.state_file)
        self._link = self._state.link
        # A batch may be there already: the process before this one may have died before it could save the state.
        self._may_be_recorded = True

    def turn(self, most_batches: int) -> bool:
        """Ship what there is, up to so many batches, and delete what is shipped; return whether there is more."""
        # Asked first: what a writer that is gone has written is all there, and so is all before a later segment.
        gone = self.folder.writer_is_gone()
        segments = self.folder.segments()
        for position, segment in enumerate(segments):
            shipped = self._ship_segment(segment, most_batches)
            if shipped == most_batches:
                return True
            most_batches -= shipped
            if gone or position < len(segments) - 1:
                self._finish(segment)
        return False

    def waiting(self) -> Waiting:
        """Return what is not yet in Postgres."""
        total, oldest = 0, None
        for segment in self.folder.segments():
            try:
                with SegmentReader(segment, self.folder.log_id) as reader:
                    total += reader.bytes_after(self._state.group)
                    if oldest is None:
                        oldest = _oldest(reader, self._state.group)
            except DamagedError:
                continue  # told when it was its turn
        return Waiting(total, oldest)

    def _ship_segment(self, segment: Path, most_batches: int) -> int:
        """Ship a segment's groups, and return how many batches that took."""
        shipped = 0
        try:
            with SegmentReader(segment, self.folder.log_id) as reader:
                for batch in batches(reader, Scorers(reader), self._state.group):
                    if shipped == most_batches:
                        break
                    self._ship(segment, batch, reader.pod)
                    shipped += 1
        except DamagedError as error:
            if segment.name not in self._state.damaged:
                self._tell(segment, "segment", str(error))
                self._state.save(self.folder.state_file)
        return shipped

    def _ship(self, segment: Path, batch: Sequence[CheckedGroup], pod: str) -> None:
        for group in batch:
            for problem in group.problems:
                self._tell(segment, "group", f"group {group.number}: {problem}")
        before = self._link.sequence
        self._write(segment, [group for group in batch if group.events], pod)
        self._state = self._state.after(batch[-1].number, self._link)
        self._metrics.records.inc(max(0, self._link.sequence - before))
        self._metrics.batches.inc()
        self._state.save(self.folder.state_file)

    def _write(self, segment: Path, groups: Sequence[CheckedGroup], pod: str) -> None:
        """Write groups that are not in the database yet; one that it refuses for good is told and left out."""
        if self._may_be_recorded:
            groups = self._unrecorded(groups)
        if not groups:
            return
        events = events_of(groups)
        versions: dict[str, ModelVersion] = {seeded.scorer.id: seeded.scorer.version for seeded in events}
        records = records_of(events, pod, self.folder.log_id.bytes, self._link)
        try:
            self._link = self._database.ship(self.folder.log_id, self._link, versions.values(), records)
        except OutOfStepError as error:
            # Written by a process that died before it saved the state, or by another shipper of the same log.
            self._link, self._may_be_recorded = error.head, True
            self._write(segment, groups, pod)
        except (RecordedError, RefusedError) as error:
            if len(groups) > 1:
                for group in groups:
                    self._write_alone(segment, group, pod)
            else:
                self._tell(segment, "group", f"group {groups[0].number}: Postgres refuses it: {error}")

    def _write_alone(self, segment: Path, group: CheckedGroup, pod: str) -> None:
        self._may_be_recorded = True
        self._write(segment, [group], pod)

    def _unrecorded(self, groups: Sequence[CheckedGroup]) -> list[CheckedGroup]:
        """Return the groups that the database does not have; each was written as a whole or not at all."""
        if not groups:
            return []
        recorded = self._database.recorded([group.last_id for group in groups])
        left = [group for group in groups if group.last_id not in recorded]
        # Groups are written in their order, so that those after one that is not there are not there, either.
        self._may_be_recorded = not left
        return left

    def _finish(self, segment: Path) -> None:
        """Delete a segment that is complete and shipped, or set it aside if a part of it was not."""
        if segment.name in self._state.damaged:
            logger.error("%s is kept as %s", segment, files.set_aside(segment).name)
        else:
            files.remove(segment)

    def _tell(self, segment: Path, part: str, problem: str) -> None:
        logger.error("damaged: %s: %s", segment, problem)
        self._metrics.damaged.labels(part).inc()
        self._state = self._state.with_damaged(segment.name)


def _oldest(reader: SegmentReader, after: int) -> float | None:
    """Return when the first decision after a group was made, as Unix time."""
    group = next(reader.groups(after), None)
    if not isinstance(group, Group):
        return None
    checked = Scorers(reader).check(group)
    if not checked.events:
        return None
    return int.from_bytes(checked.events[0].event.ids[:6], "big") / 1000
