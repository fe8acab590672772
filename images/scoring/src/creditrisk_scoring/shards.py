"""One shard: read, scored, and its results published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from creditrisk_scoring.claims import HeldClaim
from creditrisk_scoring.conditions import selected
from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import ClaimLostError, CorruptError, InputError, UsageError
from creditrisk_scoring.folders import Folder
from creditrisk_scoring.manifest import Manifest, Shard, check_file
from creditrisk_scoring.results import Counts, Tally
from creditrisk_scoring.scoring import PROBLEM, Version, result_schema, score
from creditrisk_scoring.sources import SOURCE_FILE, SOURCE_ROW, Source, numbered, open_source

DONE = "_bulk/done"
# Of a row group of the results: what is held until it is written.
_GROUP_ROWS = 1 << 17
_GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class Run:
    """A run, and what it needs.

    Attributes:
        manifest: What is to be done.
        source: The input folder.
        target: The output folder.
        version: Scores.
    """

    manifest: Manifest
    source: Folder
    target: Folder
    version: Version


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What says that a shard is done.

    Attributes:
        counts: What became of its rows.
        worker: Who scored it.
        seconds: How long that took.
    """

    counts: Counts
    worker: str
    seconds: float


def note_of(shard: Shard) -> str:
    """Return the name of a shard's note."""
    return f"{DONE}/{shard.name}.json"


def score_shard(run: Run, claim: HeldClaim, progress: Callable[[int], None], *, replaced: bool = False) -> Counts:
    """Score a shard and publish its results: two tables, then the note that they are there.

    Whoever is killed before the note leaves a shard that is not done; whoever does it again publishes the same.

    Args:
        run: What the shard is of.
        claim: Says which one, and that no other process scores it.
        progress: Is told of rows that were read, after each batch.
        replaced: Take the file that is in the place of one that was corrupt.

    Raises:
        ClaimLostError: Another process scores it now.
        InputError: The file has changed, or is corrupt.
        BulkError: A folder cannot be used.
    """
    shard, tally = claim.shard, Tally(run.version)
    file = run.manifest.files[shard.file]
    state = run.source.state(file.name)
    if state is None:
        raise InputError(f"{file.name} is gone; allowed: another output folder")
    changed = state != (file.size, file.modified)
    if file.problem is not None and not changed:
        raise CorruptError(file.problem)
    if changed and not (replaced or file.problem is not None):
        raise InputError(f"{file.name} has changed since it was listed; allowed: another output folder")

    def read(rows: int) -> None:
        claim.progressed(rows)
        progress(rows)

    projection = file.projection(run.manifest.table)
    with open_source(run.source, file.name, run.version.contract, projection) as opened, ExitStack() as tables:
        if changed:
            _refuse_another(run, shard, opened)
        _score_all(run, shard, opened, tally, tables, read)
        # The tables are published when the block ends.
        claim.confirm()
    note = Note(tally.counts(), claim.claims.worker, round(claim.seconds, 3))
    if not create(run.target, note_of(shard), msgspec.json.encode(note)):
        raise ClaimLostError(f"{shard.name} was done by another process in the meantime")
    return note.counts


def _refuse_another(run: Run, shard: Shard, opened: Source) -> None:
    """Refuse a file that is not what a corrupt one would have been.

    Raises:
        InputError: It cannot be scored, or its other shards are other rows.
    """
    try:
        check_file(opened, run.manifest.request, run.version)
    except UsageError as error:
        raise InputError(str(error)) from error
    if shard.row_groups is not None:
        first, end = shard.row_groups
        rows = list(opened.group_rows or ())
        listed = sum(part.rows or 0 for part in run.manifest.shards if part.file == shard.file)
        if (sum(rows), sum(rows[:first]), sum(rows[first:end])) != (listed, shard.first_row, shard.rows):
            raise InputError(
                f"{opened.name} was corrupt, and has other row groups now; allowed: the same, or another output folder"
            )


def _score_all(
    run: Run, shard: Shard, opened: Source, tally: Tally, tables: ExitStack, progress: Callable[[int], None]
) -> None:
    request, contract = run.manifest.request, run.version.contract
    kept = _kept(run, opened.schema)
    places = [opened.schema.field(name) for name in kept] + [pa.field(SOURCE_ROW, pa.int64()),
              pa.field(SOURCE_FILE, pa.string())]  # fmt: skip
    results = result_schema(contract, request.reasons)
    answers = [field for field in results if field.name != PROBLEM]
    scores = tables.enter_context(_table(run, f"scores/{shard.name}.parquet", pa.schema([*places, *answers])))
    rejected: _Table | None = None
    for batch in _rows(run, shard, opened, kept, tally, progress):
        found = score(batch, run.version, reasons=request.reasons, seen=tally.add_features)
        valid = pc.is_null(found.column(PROBLEM))
        whence = [*(batch.column(name) for name in (*kept, SOURCE_ROW)), pa.repeat(opened.name, batch.num_rows)]
        whole = pa.RecordBatch.from_arrays([*whence, *found.columns], schema=pa.schema([*places, *results]))
        fine = whole.filter(valid) if found.column(PROBLEM).null_count < batch.num_rows else whole
        tally.add_scored(fine)
        scores.write(fine.select(scores.schema.names))
        if fine.num_rows < batch.num_rows:
            if rejected is None:
                schema = pa.schema([*places, results.field(PROBLEM)])
                rejected = tables.enter_context(_table(run, f"rejected/{shard.name}.parquet", schema))
            refused = whole.filter(pc.invert(valid)).select(rejected.schema.names)
            tally.add_rejected(refused)
            rejected.write(refused)


def _kept(run: Run, schema: pa.Schema) -> Sequence[str]:
    """Return the columns that results keep."""
    if run.manifest.request.keep is not None:
        return run.manifest.request.keep
    contract = run.version.contract
    known = {*contract.ignored, *(feature.name for feature in contract.features)}
    return [name for name in schema.names if name not in known]


def _rows(
    run: Run, shard: Shard, opened: Source, kept: Sequence[str], tally: Tally, progress: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows to score, with their numbers."""
    where, features = run.manifest.request.where, {feature.name for feature in run.version.contract.features}
    # A condition may be about any column.
    columns = None if where else [name for name in opened.schema.names if name in features or name in kept]

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in opened.batches(shard.row_groups, columns):
            tally.read += batch.num_rows
            yield batch
            progress(batch.num_rows)

    schema = opened.schema.append(pa.field(SOURCE_ROW, pa.int64()))
    return selected(schema, numbered(counted(), shard.first_row), where)


class _Table:
    """A table that is being written: row groups of a size that readers like, from small batches."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        """Take what writes row groups."""
        self.schema = schema
        self._writer, self._held = writer, list[pa.RecordBatch]()
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._held.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are held."""
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._held, self.schema), row_group_size=self._rows)
        self._held, self._rows, self._bytes = [], 0, 0


@contextmanager
def _table(run: Run, name: str, schema: pa.Schema) -> Iterator[_Table]:
    """Give a table of the output, which is there when the block ends."""
    described = schema.with_metadata({
        f"sha256.{file}": digest for file, digest in sorted(run.version.digests.items())
    })  # fmt: skip
    # A dictionary is tried for each column by default: of numbers that are all different, that takes ten times as long.
    repeated = [field.name for field in schema if not pa.types.is_primitive(field.type)]
    with (
        run.target.staged(name) as stream,
        pq.ParquetWriter(
            stream, described, compression="zstd",
            use_dictionary=[*repeated, "reasons.list.element", "score_points"],
            column_encoding={SOURCE_ROW: "DELTA_BINARY_PACKED"},
        ) as writer,
    ):  # fmt: skip
        table = _Table(writer, described)
        yield table
        table.flush()
