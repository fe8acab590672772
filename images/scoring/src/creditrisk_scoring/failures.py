"""Shards that could not be done, each with a note of why; it says whether it is of use to try again."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from creditrisk_scoring.errors import BulkError, CorruptError, InputError
from creditrisk_scoring.folders import Folder
from creditrisk_scoring.manifest import InputFile, Shard

FAILED = "_bulk/failed"


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a shard could not be done; of no meaning once it is.

    Attributes:
        worker: Who tried.
        error: What happened.
        final: It is the file's fault: to try again is of use only once the file has another state.
        state: The file's size in bytes, and when it was modified, in nanoseconds; None if it was not there.
        corrupt: The file could not be read, now or before: another one may take its place.
    """

    worker: str
    error: str
    final: bool = False
    state: tuple[int, int] | None = None
    corrupt: bool = False

    def holds(self, source: Folder, file: InputFile) -> bool:
        """Say whether it is of no use to try again."""
        return self.final and source.state(file.name) == self.state


def failure_of(error: BulkError, worker: str, state: tuple[int, int] | None, before: Failure | None) -> Failure:
    """Return what to note of a shard.

    Args:
        error: What happened.
        worker: Who tried.
        state: The file's, from before it was opened.
        before: What was noted of it.
    """
    corrupt = isinstance(error, CorruptError) or (before is not None and before.corrupt)
    return Failure(worker, str(error), isinstance(error, InputError), state, corrupt)


def name_of(shard: Shard) -> str:
    """Return the name of the note of a shard's failure."""
    return f"{FAILED}/{shard.name}.json"


def note_failure(target: Folder, shard: Shard, failure: Failure) -> None:
    """Note that a shard could not be done.

    Raises:
        BulkError: The folder cannot be used.
    """
    target.write(name_of(shard), msgspec.json.encode(failure))


def read_failures(target: Folder, known: Collection[str] = ()) -> dict[str, Failure]:
    """Return what is noted of shards that could not be done, except of known ones, by the shard's name.

    Raises:
        BulkError: A note is not of this program, or the folder cannot be used.
    """
    found = {}
    for info in target.files(FAILED):
        name = target.name_of(info)
        shard = name.rpartition("/")[2].removesuffix(".json")
        if shard in known:
            continue
        # Who finds all shards done deletes them.
        if document := target.read(name):
            try:
                failure = msgspec.json.decode(document, type=Failure)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise BulkError(f"{target.url}/{name} is not of this program: {error}") from error
            found[shard] = failure
    return found
