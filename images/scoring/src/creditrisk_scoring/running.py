"""A whole run: every shard that is not done yet, then the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from creditrisk_scoring.errors import BulkError
from creditrisk_scoring.manifest import Shard
from creditrisk_scoring.results import Counts, summary, total_of
from creditrisk_scoring.shards import DONE, Run, score_shard

SUMMARY = "summary.json"


class Progress(Protocol):
    """Shows how far a run is."""

    def begin(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        """Show what there is to do, and what was done before."""

    def rows(self, count: int) -> None:
        """Show that rows were read."""

    def finished(self, shard: Shard, counts: Counts) -> None:
        """Show that a shard is done."""

    def failed(self, shard: Shard, error: BulkError) -> None:
        """Show that a shard could not be done."""


def run_all(run: Run, progress: Progress) -> dict[str, Any]:
    """Score what is not scored yet; write and return the summary of all.

    Raises:
        BulkError: Some shards failed. The others are done, and a rerun does only those.
    """
    shards = run.manifest.shards
    present = {run.target.name_of(info) for info in run.target.files(DONE)}
    done = [shard for shard in shards if _note(shard) in present]
    progress.begin(shards, done)
    failed = 0
    for shard in shards:
        if _note(shard) in present:
            continue
        try:
            progress.finished(shard, score_shard(run, shard, progress.rows))
        except BulkError as error:
            failed += 1
            progress.failed(shard, error)
    if failed:
        raise BulkError(f"{failed} of {len(shards)} shards failed; the same command does what is left")
    return _summarize(run)


def _summarize(run: Run) -> dict[str, Any]:
    shards, bins = run.manifest.shards, len(run.version.contract.score_histogram.counts)
    found = summary(total_of((_counts(run, shard) for shard in shards), bins), run.version, len(shards))
    run.target.write(SUMMARY, msgspec.json.format(msgspec.json.encode(found), indent=2))
    run.target.delete_staged()
    return found


def _counts(run: Run, shard: Shard) -> Counts:
    document = run.target.read(_note(shard))
    try:
        return msgspec.json.decode(document or b"", type=Counts)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BulkError(f"{run.target.url}/{_note(shard)} is no note of this program: {error}") from error


def _note(shard: Shard) -> str:
    return f"{DONE}/{shard.name}.json"
