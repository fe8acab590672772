"""The archive's files: for each day one Parquet file of decisions, and one of their inputs in the same order."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from decisions.archive.bucket import Bucket
from decisions.archive.rows import StoredDecision
from decisions.database.id_ranges import time_of
from decisions.errors import DecisionsError
from decisions.records.numbers import shortest
from decisions.records.record import DecisionInputs, Record

DECISIONS = "archive/decisions"
INPUTS = "archive/decision_inputs"
_BATCH_ROWS = 10_000
# Of a row group.
CHUNK_ROWS = 2 * _BATCH_ROWS
_HASH = pa.binary(32)
DECISION = pa.schema([
    ("id", pa.string()), ("request_id", pa.string()), ("row", pa.int32()), ("endpoint", pa.string()),
    ("role", pa.string()), ("client", pa.string()), ("model_version", pa.string()), ("probability", pa.float32()),
    ("points", pa.int32()), ("decision", pa.string()), ("grade", pa.string()), ("reasons", pa.list_(pa.string())),
    ("latency_us", pa.int32()), ("pod", pa.string()), ("log_id", pa.string()), ("sequence", pa.int64()),
    ("inputs_hash", _HASH), ("previous_hash", _HASH), ("hash", _HASH),
    # Follows from the id; for queries.
    ("time", pa.timestamp("ms", tz="UTC")),
])  # fmt: skip
INPUT = pa.schema([("id", pa.string()), ("applicant_id", pa.string()), ("salt", pa.binary()), ("inputs", pa.string())])


@dataclass(frozen=True)
class _Inputs:
    id: str
    inputs: DecisionInputs


def decisions_key(day: date) -> str:
    """Return the key of a day's decisions."""
    return f"{DECISIONS}/day={day.isoformat()}/part-0.parquet"


def inputs_key(day: date) -> str:
    """Return the key of a day's inputs."""
    return f"{INPUTS}/day={day.isoformat()}/part-0.parquet"


def archived_days(bucket: Bucket) -> list[date]:
    """Return the days that are in the archive."""
    return [_day(key) for key in bucket.keys(f"{DECISIONS}/")]


def days_with_inputs(bucket: Bucket) -> list[date]:
    """Return the days whose inputs are in the archive."""
    return [_day(key) for key in bucket.keys(f"{INPUTS}/")]


def archived_rows(bucket: Bucket, day: date) -> int:
    """Return how many decisions of a day the archive has; 0 if it has none."""
    return int((bucket.metadata(decisions_key(day)) or {}).get("rows", 0))


def write_day(bucket: Bucket, day: date, decisions: Iterable[StoredDecision]) -> int:
    """Write a day's decisions, which come in the order of their logs; return how many.

    Each file is read back before it counts as written. The decisions come last, so that a day that has them is whole.

    Raises:
        DecisionsError: The store refuses or gives back something else, or the archive has more decisions of that day.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "decisions", Path(folder) / "inputs"
        with writer_of(files[0], DECISION) as records, writer_of(files[1], INPUT) as inputs:
            for chunk in chunks(decisions, CHUNK_ROWS):
                records.write_table(decision_table(chunk))
                known = [_Inputs(row.record.id, row.inputs) for row in chunk if row.inputs is not None]
                inputs.write_table(_input_table(known))
        _refuse_to_lose(bucket, day, files[0])
        store_file(bucket, inputs_key(day), files[1])
        return store_file(bucket, decisions_key(day), files[0])


def store_file(bucket: Bucket, key: str, file: Path) -> int:
    """Write a Parquet file to an object, read it back, and return how many rows it has.

    Raises:
        DecisionsError: What was read back is something else.
    """
    digest = digest_of(file)
    rows: int = pq.read_metadata(file).num_rows
    bucket.upload(key, file, {"rows": str(rows), "sha256": digest})
    copy = file.with_suffix(".copy")
    if bucket.download(key, copy) != digest or pq.read_metadata(copy).num_rows != rows:
        raise DecisionsError(f"s3://{bucket.name}/{bucket.prefix}/{key}: what was read back is not what was written")
    copy.unlink()
    return rows


def read_day(bucket: Bucket, day: date) -> Iterator[StoredDecision]:
    """Yield a day's decisions with their inputs, as they were written; none if the day is not in the archive.

    Raises:
        DecisionsError: A file cannot be read, or has inputs that belong to none of the decisions.
    """
    if bucket.metadata(decisions_key(day)) is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs = _read_inputs(bucket, day, Path(folder) / "inputs")
        known = next(inputs, None)
        for row in _read_rows(bucket, decisions_key(day), Path(folder) / "decisions"):
            record, previous_hash, hash_ = _record_of(row)
            own = known.inputs if known and known.id == record.id else None
            if own:
                known = next(inputs, None)
            yield StoredDecision(record, previous_hash, hash_, own)
        if known:
            raise DecisionsError(f"{inputs_key(day)}: the inputs of {known.id} belong to no decision of that day, "
                                 "or are in another order")  # fmt: skip


def remove_inputs(bucket: Bucket, day: date, forgotten: Callable[[str], bool]) -> int:
    """Rewrite a day's inputs without those of applicants for whom `forgotten` is true; return how many those are."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        bucket.download(inputs_key(day), source)
        removed = 0
        with pq.ParquetFile(source) as file, writer_of(target, INPUT) as writer:
            for batch in file.iter_batches(CHUNK_ROWS):
                kept = [name is None or not forgotten(name) for name in batch.column("applicant_id").to_pylist()]
                removed += kept.count(False)
                writer.write_batch(batch.filter(pa.array(kept, pa.bool_())))
        if removed:
            store_file(bucket, inputs_key(day), target)
    return removed


def _refuse_to_lose(bucket: Bucket, day: date, file: Path) -> None:
    """Do not overwrite what the database has lost, such as by a restore of an older backup."""
    known, rows = archived_rows(bucket, day), pq.read_metadata(file).num_rows
    if rows < known:
        raise DecisionsError(f"the archive has {known} decisions of {day}, and the database only {rows}; the archive "
                             "is not overwritten")  # fmt: skip


def _day(key: str) -> date:
    return date.fromisoformat(key.split("day=")[1].split("/", maxsplit=1)[0])


def writer_of(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of a file as those of the archive."""
    return pq.ParquetWriter(file, schema, compression="zstd")


def chunks(decisions: Iterable[StoredDecision], size: int) -> Iterator[list[StoredDecision]]:
    """Yield decisions in lists of this size; the last one may be shorter."""
    chunk: list[StoredDecision] = []
    for decision in decisions:
        chunk.append(decision)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def decision_table(chunk: list[StoredDecision]) -> pa.Table:
    """Return decisions without their inputs as a table of the schema DECISION."""
    rows = [
        (*msgspec.structs.astuple(row.record)[:-1], bytes.fromhex(row.record.inputs_hash), row.previous_hash, row.hash,
         time_of(UUID(row.record.id)))
        for row in chunk
    ]  # fmt: skip
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, DECISION, strict=True)], DECISION)


def _input_table(known: list[_Inputs]) -> pa.Table:
    rows = [
        {"id": row.id, "applicant_id": row.inputs.applicant_id, "salt": row.inputs.salt, "inputs": row.inputs.inputs}
        for row in known
    ]
    return pa.Table.from_pylist(rows, INPUT)


def _read_rows(bucket: Bucket, key: str, file: Path) -> Iterator[dict[str, Any]]:
    try:
        bucket.download(key, file)
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS):
                rows = batch.to_pylist()
                if "probability" in batch.schema.names:
                    for row, value in zip(rows, shortest(batch.column("probability").to_numpy()), strict=True):
                        row["probability"] = value
                yield from rows
    except pa.ArrowException as error:
        raise DecisionsError(f"s3://{bucket.name}/{bucket.prefix}/{key} cannot be read as Parquet: {error}") from error


def _read_inputs(bucket: Bucket, day: date, file: Path) -> Iterator[_Inputs]:
    for row in _read_rows(bucket, inputs_key(day), file):
        yield _Inputs(row["id"], DecisionInputs(row["applicant_id"], row["salt"], row["inputs"]))


def _record_of(row: dict[str, Any]) -> tuple[Record, bytes, bytes]:
    row.pop("time")
    previous_hash, hash_ = row.pop("previous_hash"), row.pop("hash")
    return Record(**{**row, "inputs_hash": row["inputs_hash"].hex()}), previous_hash, hash_


def digest_of(file: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
