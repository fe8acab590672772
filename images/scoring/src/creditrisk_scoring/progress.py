"""How far a run is: a bar on a terminal, else a line for each shard."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from creditrisk_scoring.errors import BulkError
from creditrisk_scoring.manifest import Shard, rows_of
from creditrisk_scoring.results import Counts
from creditrisk_scoring.running import Progress

if TYPE_CHECKING:
    import rich.progress

log = logging.getLogger("creditrisk_scoring")


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Give what shows the progress on stderr."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    # Pods have no terminal, and need not have the library.
    import rich.console  # noqa: PLC0415
    import rich.progress as shown  # noqa: PLC0415

    columns = (shown.BarColumn(), shown.TaskProgressColumn(), shown.TextColumn("{task.completed:,.0f} rows"),
               shown.TextColumn("{task.description}"), shown.TimeRemainingColumn())  # fmt: skip
    with shown.Progress(*columns, console=rich.console.Console(stderr=True, markup=False)) as bar:
        yield _Bar(bar)


class Several:
    """Tells all of several."""

    def __init__(self, *parts: Progress) -> None:
        """Take whom to tell."""
        self._parts = parts

    def whole(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        """Tell what there is to do."""
        for part in self._parts:
            part.whole(shards, done)

    def rows(self, count: int) -> None:
        """Tell of rows."""
        for part in self._parts:
            part.rows(count)

    def finished(self, shard: Shard, counts: Counts) -> None:
        """Tell of a shard that is done."""
        for part in self._parts:
            part.finished(shard, counts)

    def failed(self, shard: Shard, error: BulkError) -> None:
        """Tell of a failure."""
        for part in self._parts:
            part.failed(shard, error)


class _Lines:
    def __init__(self) -> None:
        self._done = self._all = 0

    def whole(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        if not self._all:
            log.info("%d of %d shards are done", len(done), len(shards))
        self._done, self._all = len(done), len(shards)

    def rows(self, count: int) -> None:
        pass

    def finished(self, shard: Shard, counts: Counts) -> None:
        self._done += 1
        log.info("%s: %d rows scored, %d rejected; %d of %d shards are done", shard.name, counts.scored,
                 counts.rejected, self._done, self._all)  # fmt: skip

    def failed(self, shard: Shard, error: BulkError) -> None:
        log.error("%s failed: %s", shard.name, error)


class _Bar(_Lines):
    def __init__(self, bar: rich.progress.Progress) -> None:
        super().__init__()
        self._bar, self._rejected = bar, 0
        self._task = bar.add_task("", total=None)

    def whole(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        total = rows_of(shards)
        # Where rows are unknown, only those that this process has read are counted.
        if total is not None or not self._all:
            self._bar.update(self._task, total=total, completed=sum(shard.rows or 0 for shard in done))
        self._done, self._all = len(done), len(shards)
        self._describe()

    def rows(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def finished(self, shard: Shard, counts: Counts) -> None:
        self._done += 1
        self._rejected += counts.rejected
        self._describe(f", {self._rejected:,} rows rejected, last {shard.name}")

    def failed(self, shard: Shard, error: BulkError) -> None:
        self._bar.console.print(f"{shard.name} failed: {error}", highlight=False)

    def _describe(self, more: str = "") -> None:
        self._bar.update(self._task, description=f"{self._done} of {self._all} shards{more}")
