"""Which rows are scored: a condition in SQL, computed by DuckDB batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.scoring import BATCH_ROWS
from creditrisk_scoring.stopping import go_on_unless_stopped


def refuse_condition(schema: pa.Schema, where: str) -> None:
    """Refuse a condition that does not fit a table.

    Raises:
        UsageError: With what DuckDB says of it.
    """
    with _told_apart(where, UsageError, ()), _filtered(schema, iter(()), where) as reader:
        reader.read_all()


def selected(schema: pa.Schema, batches: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows for which a condition is true, in their order; all of them if it is empty.

    Raises:
        BulkError: It cannot be computed for a row, or what `batches` raises.
    """
    if not where:
        yield from batches
        return
    failures = list[BaseException]()

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except GeneratorExit:
            raise
        except BaseException as error:
            # Also the end of this process: of whatever it is, DuckDB makes an error of its own.
            failures.append(error)
            raise

    with _told_apart(where, BulkError, failures), _filtered(schema, watched(), where) as reader:
        for batch in reader:
            yield batch.cast(schema)


@contextmanager
def _told_apart(where: str, wrong: type[BulkError], failures: Sequence[BaseException]) -> Iterator[None]:
    """Raise what the source has failed with, or a signal's end of this process, as such; what else fails is wrong.

    Args:
        where: The condition.
        wrong: What to raise of a failure of the condition itself.
        failures: Of the source.
    """
    import duckdb  # noqa: PLC0415 - most runs have no condition, and its import takes as long as scoring 100,000 rows

    try:
        yield
    except Exception as error:
        if failures:
            raise failures[0] from error
        # DuckDB also runs handlers of signals itself.
        go_on_unless_stopped()
        # What it finds while rows are read comes through Arrow, as an OSError.
        if isinstance(error, (duckdb.Error, pa.ArrowException, OSError)):
            raise wrong(f"--where {where!r}: {error}") from error
        raise


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
