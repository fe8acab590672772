"""A whole run: shards that are not done yet, one after the other, beside other processes; then the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from creditrisk_scoring.claims import CLAIMS, Claims, HeldClaim
from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import BulkError, ClaimLostError
from creditrisk_scoring.folders import STAGING, Folder
from creditrisk_scoring.manifest import Shard
from creditrisk_scoring.results import Counts, summary, total_of
from creditrisk_scoring.shards import DONE, Note, Run, note_of, score_shard

SUMMARY = "summary.json"
FAILED = "_bulk/failed"


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a shard could not be done; of no meaning once it is.

    Attributes:
        worker: Who tried.
        error: What happened.
    """

    worker: str
    error: str


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

    Raises:
        BulkError: Some shards failed. The others are done, and a rerun does only those.
    """
    shards, failed = run.manifest.shards, set[int]()
    while True:
        present = {run.target.name_of(info) for info in run.target.files(DONE)}
        done = [shard for shard in shards if note_of(shard) in present]
        progress.whole(shards, done)
        left = [shard for shard in shards if note_of(shard) not in present and shard.number not in failed]
        if not left:
            break
        claim = _claimed(claims, left)
        if claim is None:
            claims.wait()
        # It may have been done between both looks.
        elif run.target.state(note_of(claim.shard)) is None and not _done(run, claim, progress):
            failed.add(claim.shard.number)
    if len(done) < len(shards):
        raise BulkError(f"{len(shards) - len(done)} of {len(shards)} shards failed; the same command does what is left")
    return _summarize(run)


def _claimed(claims: Claims, shards: Sequence[Shard]) -> HeldClaim | None:
    claims.look()
    return next((claim for claim in map(claims.take, shards) if claim is not None), None)


def _done(run: Run, claim: HeldClaim, progress: Progress) -> bool:
    """Score a claimed shard; return False if that failed, and is not for another process to do."""
    shard = claim.shard
    try:
        progress.finished(shard, score_shard(run, claim, progress.rows))
    except ClaimLostError:
        return True
    except BulkError as error:
        # Who finds all shards done deletes what others are still writing.
        if run.target.state(note_of(shard)) is not None:
            return True
        progress.failed(shard, error)
        failure = Failure(claim.claims.worker, str(error))
        run.target.write(f"{FAILED}/{shard.name}.json", msgspec.json.encode(failure))
        claim.give_back()
        return False
    except BaseException:
        # This process ends: others need not wait for the end of the claim.
        claim.give_back()
        raise
    return True


def _summarize(run: Run) -> dict[str, Any]:
    shards, bins = run.manifest.shards, len(run.version.contract.score_histogram.counts)
    counts = total_of((read_note(run.target, shard).counts for shard in shards), bins)
    found = summary(counts, run.version, len(shards))
    create(run.target, SUMMARY, msgspec.json.format(msgspec.json.encode(found), indent=2))
    for folder in (CLAIMS, FAILED, STAGING):
        run.target.delete_files(folder)
    return found


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
