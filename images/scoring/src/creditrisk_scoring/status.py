"""How far a run is, by what its processes have left in the output folder."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from creditrisk_scoring.claims import CLAIMS, Claim, parsed
from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.failures import Failure, read_failures
from creditrisk_scoring.folders import Folder, state_of
from creditrisk_scoring.manifest import MANIFEST, Shard, read_manifest
from creditrisk_scoring.running import SUMMARY, read_note
from creditrisk_scoring.shards import DONE, Note, note_of

_READERS = 8


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a process has done, and what it is at.

    Attributes:
        name: A pod's name, or a machine and a process.
        shards_done: How many.
        rows_read: Rows of the input, also of the shard that it is at.
        shard: That shard; None if it has none, or has not been heard of for its lease.
        shard_rows_read: How far it is with that one.
        rows_per_second: Its average speed so far; 0 if it is at no shard.
    """

    name: str
    shards_done: int
    rows_read: int
    shard: str | None = None
    shard_rows_read: int = 0
    rows_per_second: float = 0.0


class FailedShard(msgspec.Struct, frozen=True):
    """A shard that could not be done, and nobody is at."""

    shard: str
    file: str
    worker: str
    error: str


class Status(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        state: `done` (with its summary), `failed` (done, but for files that cannot be scored), `running`, or `idle`: no
            process is at what is left.
        shards: Of the run.
        shards_done: Those with results.
        rows: Of the input; None where only reading the files can tell.
        rows_read: Of the input, also by shards that are not done.
        scored: Rows of shards that are done.
        rejected: The same.
        rows_per_second: Of all processes that are at a shard.
        seconds_left: At that speed; None if it is unknown.
        workers: All that have done a shard or are at one, by name.
        failed: Shards that could not be done.
    """

    state: str
    shards: int
    shards_done: int
    rows: int | None
    rows_read: int
    scored: int
    rejected: int
    rows_per_second: float
    seconds_left: float | None
    workers: tuple[WorkerStatus, ...]
    failed: tuple[FailedShard, ...]


@dataclass(frozen=True)
class Found:
    """What an output folder has.

    Attributes:
        shards: With the names of their files.
        notes: Of shards that are done, by the shard's name.
        claims: Of shards that processes are at, by the shard's name.
        failures: Of shards that could not be done, by the shard's name.
        summarized: Whether there is a summary.
    """

    shards: Sequence[tuple[Shard, str]]
    notes: Mapping[str, Note]
    claims: Mapping[str, Claim]
    failures: Mapping[str, Failure]
    summarized: bool


def read_status(target: Folder) -> Status:
    """Return how far the run of an output folder is.

    Raises:
        UsageError: The folder has no run.
        BulkError: It cannot be read.
    """
    return status_of(find(target, time.time()))


def find(target: Folder, now: float) -> Found:
    """Read what an output folder has; `now`, in seconds since 1970, tells claims that are over."""
    manifest = read_manifest(target)
    if manifest is None:
        raise UsageError(f"{target.url} has no run: {MANIFEST} does not exist; allowed: the output folder of one")
    present = {target.name_of(info) for info in target.files(DONE)}
    done = [shard for shard in manifest.shards if note_of(shard) in present]
    with ThreadPoolExecutor(_READERS) as readers:
        notes = dict(zip((shard.name for shard in done), readers.map(lambda one: read_note(target, one), done),
                         strict=True))  # fmt: skip
    shards = [(shard, manifest.files[shard.file].name) for shard in manifest.shards]
    return Found(shards, notes, _claims(target, now), read_failures(target), target.state(SUMMARY) is not None)


def _claims(target: Folder, now: float) -> dict[str, Claim]:
    newest: dict[str, tuple[int, str, float]] = {}
    for info in target.files(CLAIMS):
        name = target.name_of(info)
        shard, number = parsed(name)
        newest[shard] = max(newest.get(shard, (0, "", 0.0)), (number, name, state_of(info)[1] / 1e9))
    found = {shard: (_read(target, name), written) for shard, (_, name, written) in newest.items()}
    # Whole seconds in S3; a clock that is a little off must not hide a process.
    return {shard: claim for shard, (claim, written) in found.items() if claim and now - written < 2 * claim.lease}


def _read(target: Folder, name: str) -> Claim | None:
    """Return a claim; None if it was given back."""
    document = target.read(name)
    try:
        return msgspec.json.decode(document, type=Claim) if document else None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BulkError(f"{target.url}/{name} is not of this program: {error}") from error


def status_of(found: Found) -> Status:
    """Return how far a run is."""
    claims = {name: claim for name, claim in found.claims.items() if name not in found.notes}
    rows = _rows(found)
    counts = [note.counts for note in found.notes.values()]
    read = sum(count.read for count in counts) + sum(claim.rows for claim in claims.values())
    workers = _workers(found.notes.values(), claims)
    speed = sum(worker.rows_per_second for worker in workers)
    state = _state(found, claims)
    left = None if rows is None or not speed else max(rows - read, 0) / speed
    return Status(
        state, len(found.shards), len(found.notes), rows, read,
        sum(count.scored for count in counts), sum(count.rejected for count in counts), speed,
        0.0 if state in {"done", "failed"} else left, tuple(workers),
        tuple(
            FailedShard(shard.name, file, failure.worker, failure.error)
            for shard, file in found.shards
            if (failure := found.failures.get(shard.name)) and shard.name not in found.notes.keys() | claims.keys()
        ),
    )  # fmt: skip


def _state(found: Found, claims: Mapping[str, Claim]) -> str:
    names = {shard.name for shard, _ in found.shards}
    final = {name for name, failure in found.failures.items() if failure.final}
    if found.summarized and names <= found.notes.keys():
        return "done"
    if claims:
        return "running"
    return "failed" if found.summarized and names <= found.notes.keys() | final else "idle"


def _rows(found: Found) -> int | None:
    """Return how many rows the input has, as far as could be read; None if only reading the rest can tell."""
    known = [
        shard.rows if (note := found.notes.get(shard.name)) is None else note.counts.read for shard, _ in found.shards
    ]
    return None if None in known else sum(count or 0 for count in known)


def _workers(notes: Iterable[Note], claims: Mapping[str, Claim]) -> list[WorkerStatus]:
    shards, rows, seconds = defaultdict[str, int](int), defaultdict[str, int](int), defaultdict[str, float](float)
    for note in notes:
        shards[note.worker] += 1
        rows[note.worker] += note.counts.read
        seconds[note.worker] += note.seconds
    at: dict[str, tuple[str, int]] = {}
    for shard, claim in claims.items():
        at[claim.worker] = shard, claim.rows
        rows[claim.worker] += claim.rows
        seconds[claim.worker] += claim.seconds
    speed = {name: round(rows[name] / seconds[name], 1) if seconds[name] else 0.0 for name in rows}
    return [
        WorkerStatus(name, shards[name], rows[name], *at[name], speed[name])
        if name in at
        else WorkerStatus(name, shards[name], rows[name])
        for name in sorted(rows)
    ]
