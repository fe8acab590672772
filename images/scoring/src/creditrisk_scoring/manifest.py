"""What a run does, listed once: a rerun does what is left of the same list, whatever has become of the folder since."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

import msgspec
import pyarrow as pa

from creditrisk_scoring.conditions import refuse_condition
from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import CorruptError, UsageError
from creditrisk_scoring.folders import Folder
from creditrisk_scoring.projection import Projection
from creditrisk_scoring.scoring import Version, check_schema
from creditrisk_scoring.snapshots import DataFile, Snapshot, list_snapshot, table_within
from creditrisk_scoring.sources import FORMATS, RESERVED, Source, format_of, open_source

MANIFEST = "_bulk/manifest.json"
_FORMAT_VERSION = 1
# Of files that are left out, so many are named.
_NAMED = 5
log = logging.getLogger("creditrisk_scoring")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all results of one output folder have in common.

    Attributes:
        input: The folder: its path, or its bucket and prefix.
        digests: The SHA-256 of the version's files.
        scorecard: The scale of score points: base points, base odds, points to double the odds.
        reasons: How many reason codes.
        where: A condition in SQL; empty for none.
        keep: The input's columns that results keep; None for all that are no features.
        shard_rows: About how many rows a shard has.
    """

    input: str
    digests: dict[str, str]
    scorecard: tuple[float, float, float]
    reasons: int
    where: str
    keep: tuple[str, ...] | None
    shard_rows: int


class InputFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the input, as it was when it was listed.

    Attributes:
        name: Its path within the folder.
        size: In bytes.
        modified: Nanoseconds since 1970.
        problem: Why it could not be read; None if it could.
        constants: Of a table's file: the values of the columns that the table is partitioned by, as text.
    """

    name: str
    size: int
    modified: int
    problem: str | None = None
    constants: dict[str, str | None] = msgspec.field(default_factory=dict)

    def projection(self, snapshot: Snapshot | None) -> Projection | None:
        """Return how it becomes rows of a table; None without a table."""
        return None if snapshot is None else snapshot.projection(self.constants)


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a file that is scored, and whose results are published, as one.

    Attributes:
        number: Its results are called by it.
        file: The file's place in the manifest.
        row_groups: The first, and the one after the last; None for a whole file that has no row groups, or that could
            not be read when it was listed.
        first_row: The number of its first row in the file.
        rows: How many it has; None if only reading the file can tell, and 0 if that was not possible.
    """

    number: int
    file: int
    row_groups: tuple[int, int] | None
    first_row: int
    rows: int | None

    @property
    def name(self) -> str:
        """What its results are called."""
        return f"part-{self.number:05d}"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run.

    Attributes:
        request: What was asked for.
        files: Of the input, by name.
        shards: Of the files, in their order.
        table: The table that the input is; None for a folder of files.
        format_version: Of this document.
    """

    request: Request
    files: tuple[InputFile, ...]
    shards: tuple[Shard, ...]
    table: Snapshot | None = None
    format_version: Annotated[int, msgspec.Meta(ge=_FORMAT_VERSION, le=_FORMAT_VERSION)] = _FORMAT_VERSION


def rows_of(shards: Sequence[Shard]) -> int | None:
    """Return how many rows shards have; None if only reading a file can tell."""
    known = [shard.rows for shard in shards if shard.rows is not None]
    return sum(known) if len(known) == len(shards) else None


def read_or_make(source: Folder, target: Folder, request: Request, version: Version) -> Manifest:
    """Return the run that an output folder has, or begin one there; of several processes, one begins it.

    Raises:
        UsageError: The folder has the results of another request, or the input cannot be scored.
    """
    found = read_manifest(target)
    if found is None:
        manifest = _make(source, request, version)
        if create(target, MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1)):
            return manifest
        return read_or_make(source, target, request, version)
    _refuse_differences(target, found.request, request)
    return found


def read_manifest(target: Folder) -> Manifest | None:
    """Return the run that an output folder has; None if it has none.

    Raises:
        UsageError: The file is no manifest.
    """
    document = target.read(MANIFEST)
    if document is None:
        return None
    try:
        return msgspec.json.decode(document, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{target.url}/{MANIFEST} is not a manifest of this program: {error}") from error


def _refuse_differences(target: Folder, found: Request, asked: Request) -> None:
    for name in Request.__struct_fields__:
        before, now = getattr(found, name), getattr(asked, name)
        if before != now:
            raise UsageError(
                f"{target.url} has results of another run: {name} was {before!r} and is {now!r}; allowed: the same, or "
                "another output folder"
            )


def _make(source: Folder, request: Request, version: Version) -> Manifest:
    snapshot, names = list_snapshot(source) or (None, _data_files(source))
    files, shards = list[InputFile](), list[Shard]()
    for data_file in names:
        file, parts = _listed(source, data_file, request, version, snapshot)
        shards += [Shard(len(shards) + number, len(files), *part) for number, part in enumerate(parts)]
        files.append(file)
    problems = [file.problem for file in files if file.problem is not None]
    if files and len(problems) == len(files):
        raise UsageError(f"{source.url}: no file can be read: {problems[0]}")
    return Manifest(request, tuple(files), tuple(shards), snapshot)


def _data_files(source: Folder) -> list[DataFile]:
    names = [source.name_of(info) for info in source.files()]
    if tables := sorted({table for name in names if (table := table_within(name))}):
        # Their folders also have files with rows that were deleted.
        raise UsageError(
            f"{source.url} has tables within, such as {tables[0]}; allowed: a table's own folder, or files"
        )
    data = [name for name in names if _is_data(name)]
    files = [DataFile(name) for name in data if format_of(name)]
    if not files:
        raise UsageError(f"{source.url} has no file whose name ends in {' or '.join(FORMATS)}, and is no table")
    if others := [name for name in data if not format_of(name)]:
        log.warning("files left out as their names do not end in %s: %d (%s%s)", " or ".join(FORMATS), len(others),
                    ", ".join(others[:_NAMED]), ", ..." if len(others) > _NAMED else "")  # fmt: skip
    return files


def _listed(
    source: Folder, data: DataFile, request: Request, version: Version, snapshot: Snapshot | None
) -> tuple[InputFile, list[tuple[tuple[int, int] | None, int, int | None]]]:
    """Return a file, and its shards' parts; one that cannot be read does not keep the others from being scored."""
    state = source.state(data.name)
    if state is None:
        raise UsageError(f"{source.url} has no file {data.name}; allowed: a table with all of its files")
    file = InputFile(data.name, *state, constants=dict(data.constants))
    try:
        with open_source(source, file.name, version.contract, file.projection(snapshot)) as opened:
            check_file(opened, request, version)
            return file, _split(opened.group_rows, request.shard_rows)
    except CorruptError as error:
        return msgspec.structs.replace(file, problem=str(error)), [(None, 0, 0)]


def _is_data(name: str) -> bool:
    """Say whether a file may be data: names that begin with _ or . are other programs' notes."""
    return not any(part.startswith(("_", ".")) for part in name.split("/"))


def check_file(opened: Source, request: Request, version: Version) -> None:
    """Refuse a file that no row of could be scored.

    Raises:
        UsageError: Its columns are not those that the version, or the request, needs.
    """
    schema = opened.schema
    try:
        check_schema(schema, version)
        _refuse_names(schema, request.keep or ())
        if request.where:
            refuse_condition(schema, request.where)
    except UsageError as error:
        raise UsageError(f"{opened.name}: {error}") from error


def _refuse_names(schema: pa.Schema, keep: Sequence[str]) -> None:
    if taken := sorted(set(schema.names) & RESERVED):
        raise UsageError(f"the columns {', '.join(taken)} are called as those of the results; allowed: other names")
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise UsageError(f"the column {twice} appears twice; allowed: once")
    if absent := sorted(set(keep) - set(schema.names)):
        raise UsageError(f"--keep {', '.join(absent)}: no such column; allowed: {', '.join(schema.names)}")


def _split(group_rows: Sequence[int] | None, most: int) -> list[tuple[tuple[int, int] | None, int, int | None]]:
    """Return row groups, gathered up to about so many rows: which, the first row's number, and how many rows."""
    if group_rows is None:
        return [(None, 0, None)]
    shards: list[tuple[tuple[int, int] | None, int, int | None]] = []
    start, first_row, rows = 0, 0, 0
    for group, count in enumerate(group_rows):
        if rows and rows + count > most:
            shards.append(((start, group), first_row, rows))
            start, first_row, rows = group, first_row + rows, 0
        rows += count
    # A file without rows has a shard, too: its results are a table without rows.
    return [*shards, ((start, len(group_rows)), first_row, rows)]
