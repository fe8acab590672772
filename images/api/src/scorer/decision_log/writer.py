"""Writes groups of events to segments: begins a new one in time, keeps to the limit, and tries again after errors."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from scorer.decision_log.folder import LogFolder, bytes_in
from scorer.decision_log.metrics import Cause
from scorer.decision_log.segment import Segment, Version, most_bytes

log = logging.getLogger(__name__)
# A segment's events; the shipper removes whole segments. With a small limit, an eighth of that.
SEGMENT_BYTES = 32 * 1024 * 1024
# How often the segments on disk are measured, and the current one looked for.
MEASURE_SECONDS = 1.0
# After so many failures in a row the writer goes on with a new segment. Before that it tries the same one again, which
# overwrites whatever a failed attempt has left in it.
FAILURES_FOR_NEW_SEGMENT = 3
# What cannot be written; a MemoryError is SQLite's, too.
_FAILURES = (sqlite3.Error, OSError, MemoryError)


@dataclass(frozen=True)
class Group:
    """Decisions that are made durable together.

    Attributes:
        decisions: How many.
        events: MessagePack, an array of events.
        versions: The versions that they name.
    """

    decisions: int
    events: bytes | bytearray
    versions: Collection[Version]


@dataclass(frozen=True)
class Failure:
    """Why a group was not written: the cause in the metrics, and the same for people."""

    cause: Cause
    reason: str


class SegmentWriter:
    """Writes the groups of one process; any thread may use it, one at a time."""

    def __init__(self, folder: Path, pod: str, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the folder of all pods' logs, this pod's name, and the most bytes of its segments on disk.

        Nothing is created yet, so a folder that cannot be written to is an error of the first write alone.
        """
        self._pod_folder, self._pod, self.max_bytes, self._clock = folder / pod, pod, max_bytes, clock
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._folder: LogFolder | None = None
        self._segment: Segment | None = None
        # Of the last group in this log.
        self._number = 0
        self._failures = 0
        self._measured_at = -MEASURE_SECONDS
        # What all segments of the pod have on disk, as last measured, and what was written since.
        self.bytes_on_disk = 0
        # How long the last group took to become durable, in seconds.
        self.fsync_seconds = 0.0

    def open(self) -> Failure | None:
        """Create the log's folder and first segment ahead of the first group; return why that is not possible."""
        try:
            self._current_segment()
        except _FAILURES as error:
            return self._failed(error)
        return None

    def write(self, group: Group) -> Failure | None:
        """Make a group durable; return why that is not possible. The group may be given again."""
        try:
            needed = most_bytes(len(group.events))
            self._measure(needed)
            if self.bytes_on_disk + needed > self.max_bytes:
                return Failure(
                    "segments-full",
                    f"the segments have {self.bytes_on_disk} of {self.max_bytes} bytes, and the next decisions need up "
                    f"to {needed}",
                )
            segment = self._current_segment()
            self.fsync_seconds = segment.write(self._number + 1, group.decisions, group.events, group.versions)
        except _FAILURES as error:
            return self._failed(error)
        self._number += 1
        self._failures = 0
        self.bytes_on_disk += needed
        return None

    def close(self) -> None:
        """End the log."""
        self._end_segment()
        if self._folder:
            self._folder.close()
            self._folder = None

    def _measure(self, more: int) -> None:
        """Measure what is on disk and look whether it is still there, if that was long ago or the limit is near."""
        if self._clock() - self._measured_at < MEASURE_SECONDS and self.bytes_on_disk + more <= self.max_bytes:
            return
        self._measured_at, self.bytes_on_disk = self._clock(), bytes_in(self._pod_folder)
        if self._segment and not self._segment.exists:
            log.error("the decision log's segment in %s is gone; going on with another one", self._pod_folder)
            self._end_segment()

    def _current_segment(self) -> Segment:
        if self._segment and self._segment.bytes >= self._segment_bytes:
            self._end_segment()
        if self._segment is None:
            if self._folder and not self._folder.exists:
                self._folder.close()
                self._folder = None
            if self._folder is None:
                self._folder, self._number = LogFolder(self._pod_folder), 0
            self._segment = Segment(self._folder.next_segment(), self._folder.log_id, self._pod)
        return self._segment

    def _end_segment(self) -> None:
        if self._segment:
            # What cannot be moved to the file stays in its write-ahead log, where readers find it.
            with contextlib.suppress(*_FAILURES):
                self._segment.close()
            self._segment = None

    def _failed(self, error: BaseException) -> Failure:
        self._failures += 1
        if self._failures % FAILURES_FOR_NEW_SEGMENT == 0:
            self._end_segment()
        return Failure("disk", f"writing to {self._pod_folder} failed: {error}")
