"""Which rows are scored: a condition in SQL, computed by DuckDB batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.scoring import BATCH_ROWS


def refuse_condition(schema: pa.Schema, where: str) -> None:
    """Refuse a condition that does not fit a table.

    Raises:
        UsageError: With what DuckDB says of it.
    """
    import duckdb  # noqa: PLC0415 - most runs have no condition, and its import takes as long as scoring 100,000 rows

    try:
        with _filtered(schema, iter(()), where) as reader:
            reader.read_all()
    except duckdb.Error as error:
        raise UsageError(f"--where {where!r}: {error}") from error


def selected(schema: pa.Schema, batches: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows for which a condition is true, in their order; all of them if it is empty.

    Raises:
        BulkError: It cannot be computed for a row, or what `batches` raises.
    """
    if not where:
        yield from batches
        return
    import duckdb  # noqa: PLC0415 - as above

    failures: list[BulkError] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BulkError as error:
            # DuckDB would raise an error of its own, with a traceback as its text.
            failures.append(error)
            raise

    try:
        with _filtered(schema, watched(), where) as reader:
            for batch in reader:
                yield batch.cast(schema)
    except duckdb.Error as error:
        raise failures[0] if failures else BulkError(f"--where {where!r}: {error}") from error


@contextmanager
def _filtered(schema: pa.Schema, batches: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.RecordBatchReader]:
    import duckdb  # noqa: PLC0415 - as above

    # One thread: the order is the file's. The condition sees the row alone, and no file of this machine.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1, "enable_external_access": False, "memory_limit": "256MB",
    }  # fmt: skip
    with duckdb.connect(config=config) as connection:
        rows = connection.from_arrow(pa.RecordBatchReader.from_batches(schema, batches))
        yield rows.filter(where).to_arrow_reader(BATCH_ROWS)
