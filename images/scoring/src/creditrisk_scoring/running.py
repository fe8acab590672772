"""A whole run: shards that are not done yet, one after the other, beside other processes; then the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from creditrisk_scoring.claims import CLAIMS, Claims, HeldClaim
from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import BulkError, ClaimLostError
from creditrisk_scoring.failures import FAILED, Failure, failure_of, note_failure, read_failures
from creditrisk_scoring.folders import STAGING, Folder
from creditrisk_scoring.manifest import Shard
from creditrisk_scoring.results import Counts, summary, total_of
from creditrisk_scoring.shards import DONE, Note, Run, note_of, score_shard

SUMMARY = "summary.json"


class Progress(Protocol):
    """Shows how far a run is."""

    def whole(self, shards: Sequence[Shard], done: Sequence[Shard]) -> None:
        """Show what there is to do, and what is done, by whomever."""

    def rows(self, count: int) -> None:
        """Show that this process has read rows."""

    def finished(self, shard: Shard, counts: Counts) -> None:
        """Show that this process has done a shard."""

    def failed(self, shard: Shard, error: BulkError) -> None:
        """Show that this process could not do a shard."""


def run_all(run: Run, claims: Claims, progress: Progress) -> dict[str, Any]:
    """Score what is not scored yet and what no other process scores; return the summary once all is done.

    Files that cannot be scored are named in the summary; their other shards, and other files, are done.

    Raises:
        BulkError: Some shards failed for another reason. The others are done, and a rerun does only those.
    """
    shards, tried, final = run.manifest.shards, set[str](), dict[str, Failure]()
    while True:
        present = {run.target.name_of(info) for info in run.target.files(DONE)}
        done = [shard for shard in shards if note_of(shard) in present]
        progress.whole(shards, done)
        failures = final | read_failures(run.target, final.keys())
        final |= _holding(run, {name: failures[name] for name in failures.keys() - final.keys()})
        left = [shard for shard in shards if note_of(shard) not in present and shard.name not in tried | final.keys()]
        if not left:
            break
        claim = _claimed(claims, left)
        if claim is None:
            claims.wait()
        # It may have been done between both looks.
        elif run.target.state(note_of(claim.shard)) is None and not _done(
            run, claim, progress, _before(run, claim.shard, failures)
        ):
            tried.add(claim.shard.name)
    missing = [shard for shard in shards if note_of(shard) not in present]
    if other := [shard for shard in missing if shard.name not in final]:
        raise BulkError(f"{len(other)} of {len(shards)} shards failed; the same command does what is left")
    return _summarize(run, done, {shard: final[shard.name] for shard in missing})


def _holding(run: Run, failures: Mapping[str, Failure]) -> dict[str, Failure]:
    """Return the failures that are no use to try again, as their files are still what they were."""
    files = {shard.name: run.manifest.files[shard.file] for shard in run.manifest.shards}
    return {name: failure for name, failure in failures.items() if failure.holds(run.source, files[name])}


def _before(run: Run, shard: Shard, failures: Mapping[str, Failure]) -> Failure | None:
    """Return what is noted of a shard, or that another one of its file was corrupt: that file may be replaced, too."""
    of_file = (failures.get(other.name) for other in run.manifest.shards if other.file == shard.file)
    return next((one for one in of_file if one is not None and one.corrupt), failures.get(shard.name))


def _claimed(claims: Claims, shards: Sequence[Shard]) -> HeldClaim | None:
    claims.look()
    return next((claim for claim in map(claims.take, shards) if claim is not None), None)


def _done(run: Run, claim: HeldClaim, progress: Progress, before: Failure | None) -> bool:
    """Score a claimed shard; return False if that failed, and is not for another process to do."""
    shard = claim.shard
    state: tuple[int, int] | None = None
    try:
        state = run.source.state(run.manifest.files[shard.file].name)
        replaced = before is not None and before.corrupt
        progress.finished(shard, score_shard(run, claim, progress.rows, replaced=replaced))
    except ClaimLostError:
        return True
    except BulkError as error:
        # Who finds all shards done deletes what others are still writing.
        if run.target.state(note_of(shard)) is not None:
            return True
        progress.failed(shard, error)
        note_failure(run.target, shard, failure_of(error, claim.claims.worker, state, before))
        claim.give_back()
        return False
    except BaseException:
        # This process ends: others need not wait for the end of the claim.
        claim.give_back()
        raise
    return True


def _summarize(run: Run, done: Sequence[Shard], failed: Mapping[Shard, Failure]) -> dict[str, Any]:
    bins = len(run.version.contract.score_histogram.counts)
    counts = total_of((read_note(run.target, shard).counts for shard in done), bins)
    problems = {run.manifest.files[shard.file].name: failure.error for shard, failure in failed.items()}
    found = summary(counts, run.version, len(run.manifest.shards), len(done), problems)
    if (table := run.manifest.table) is not None:
        found["table"] = {"format": table.format, "version": table.version}
    _publish(run.target, msgspec.json.format(msgspec.json.encode(found), indent=2))
    for folder in (CLAIMS, STAGING) if failed else (CLAIMS, FAILED, STAGING):
        run.target.delete_files(folder)
    return found


def _publish(target: Folder, document: bytes) -> None:
    """Write the summary, which a run that was not complete may have already."""
    if create(target, SUMMARY, document) or target.read(SUMMARY) == document:
        return
    try:
        target.write(SUMMARY, document)
    except BulkError:
        # Another process has ended at this moment, too: it has written the same, and deleted what this one was staging.
        if target.read(SUMMARY) != document:
            raise


def read_note(target: Folder, shard: Shard) -> Note:
    """Return a shard's note.

    Raises:
        BulkError: There is none, or it is no note of this program.
    """
    document = target.read(note_of(shard))
    try:
        return msgspec.json.decode(document or b"", type=Note)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BulkError(f"{target.url}/{note_of(shard)} is no note of this program: {error}") from error
