"""The training table as a file: Parquet or CSV, in pieces as its rows are read."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from decisions.reading.training_data import OTHER, PROBABILITY, Column, Row, TrainingTable

METADATA_KEY = "training-data"


async def file_pieces(table: TrainingTable, form: Literal["parquet", "csv"]) -> AsyncIterator[bytes]:
    """Yield the pieces of the file; the Parquet file's metadata hold the summary, with query and digest."""
    sink = _Sink()
    writer = _parquet(table, sink) if form == "parquet" else pyarrow.csv.CSVWriter(sink, schema_of(table))
    try:
        async for rows in table.batches():
            batch = await asyncio.to_thread(_batch, table, rows)
            await asyncio.to_thread(writer.write, batch)
            yield sink.take()
    finally:
        writer.close()
    yield sink.take()


def schema_of(table: TrainingTable) -> pa.Schema:
    """Return the table's columns and their types."""
    features = [(column.name, pa.float64() if column.numeric else pa.string()) for column in table.features]
    scored = [(PROBABILITY, pa.float64())] if table.query.include_rejected else []
    return pa.schema(
        [("decision_id", pa.string()), ("decided_at", pa.timestamp("ms", "UTC")), *scored, *features,
         (table.query.target, pa.string())]
    )  # fmt: skip


class _Sink(io.RawIOBase):
    """What a writer has written since it was asked last."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: object) -> int:
        """Keep a piece."""
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        """Return how much was written at all."""
        return self._written

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _parquet(table: TrainingTable, sink: _Sink) -> pq.ParquetWriter:
    schema = schema_of(table).with_metadata({METADATA_KEY: table.summary.model_dump_json()})
    return pq.ParquetWriter(sink, schema, compression="zstd")


def _batch(table: TrainingTable, rows: Sequence[Row]) -> pa.RecordBatch:
    columns = [
        [str(row.decision_id) for row in rows],
        [row.decided_at for row in rows],
        *([[row.probability for row in rows]] if table.query.include_rejected else []),
        *([_value(row, column) for row in rows] for column in table.features),
        [table.query.labels[row.outcome] for row in rows],
    ]
    schema = schema_of(table)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _value(row: Row, column: Column) -> float | str | None:
    """Return a feature's value; None if it is missing, or unknown to the version that scored the row."""
    value = row.inputs.get(column.name)
    if isinstance(value, dict):
        return OTHER
    if value is None or column.numeric:
        return value
    return str(value)
