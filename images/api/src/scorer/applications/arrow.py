"""Arrow and Parquet tables, read and written by arro3: Rust libraries at a tenth of pyarrow's size, in a sandbox."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scorer.applications.rows import MAX_ROWS, Column
from scorer.applications.sandbox import Sandbox, SandboxCrashedError
from scorer.applications.tables import check_row_count, refuse_duplicate_columns
from scorer.http.media_types import ARROW_FILE, ARROW_STREAM, PARQUET
from scorer.problems import FieldProblem, Problem

_BATCH_ROWS = 1024
_PARQUET_MAGIC = b"PAR1"
# A table of 10,000 applications needs a tenth of it.
MEMORY_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class TableSchema:
    """What to make of a table's columns, by name; all others are read as strings.

    Attributes:
        numeric: Columns that are read as numbers.
        ignored: Columns of any type that are not read at all.
    """

    numeric: Collection[str]
    ignored: Collection[str] = ()


@dataclass(frozen=True)
class OutputColumn:
    """A column to write: the name of arro3's data type, and the values."""

    kind: str
    values: Sequence[Any]


class TableCodec:
    """Reads and writes tables in a sandbox process, which may crash without harming this one."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        """Take how much memory reading may use, in bytes."""
        self._sandbox, self._memory_bytes = Sandbox(memory_bytes), memory_bytes

    def read(self, body: bytes, media_type: str, schema: TableSchema) -> dict[str, Column]:
        """Return what `read_columns` returns.

        Raises:
            Problem: What `read_columns` raises, and 422 for a table that needs too much memory to read.
        """
        try:
            return self._sandbox.run(read_columns, body, media_type, schema)
        except SandboxCrashedError:
            limit = f"{self._memory_bytes // 1024**2} MiB"
            detail = f"the table could not be read within {limit} of memory: it is too large or corrupt"
            raise Problem(422, detail) from None

    def write(self, columns: Mapping[str, OutputColumn], media_type: str, metadata: dict[str, str]) -> bytes:
        """Return what `write_table` returns."""
        return self._sandbox.run(write_table, columns, media_type, metadata)


def read_columns(body: bytes, media_type: str, schema: TableSchema) -> dict[str, Column]:
    """Return a table's columns: float64 for numeric ones, else Python strings, None for missing values.

    Raises:
        Problem: 400 if the body is not such a table, 413 for too many rows, 422 for a column of the wrong type.
    """
    import arro3.core as ac  # noqa: PLC0415 - only the sandbox process needs it
    import arro3.io as aio  # noqa: PLC0415

    readers: dict[str, Callable[[bytes], Any]] = {
        ARROW_STREAM: aio.read_ipc_stream,
        ARROW_FILE: aio.read_ipc,
        PARQUET: lambda data: aio.read_parquet(data, batch_size=_BATCH_ROWS),
    }
    batches, count = [], 0
    if media_type == PARQUET and not (body.startswith(_PARQUET_MAGIC) and body.endswith(_PARQUET_MAGIC)):
        raise Problem(400, "the body is not a Parquet file: its magic bytes are missing")
    try:
        reader = readers[media_type](body)
        # Batch by batch, so that a small file with endless rows is refused before it is read.
        for batch in reader:
            count += batch.num_rows
            if count > MAX_ROWS:
                break
            batches.append(batch)
        table = ac.Table.from_batches(batches, schema=reader.schema)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise Problem(400, f"the body is not valid {media_type}: {error}") from error
    check_row_count(count)
    refuse_duplicate_columns(table.column_names)
    names = [name for name in table.column_names if name not in schema.ignored]
    if not count:
        # Most writers write an empty table without a single batch, and arro3 cannot cast its columns.
        return {name: [] for name in names}
    return {name: _values(ac, name, table.column(name), as_number=name in schema.numeric) for name in names}


def write_table(columns: Mapping[str, OutputColumn], media_type: str, metadata: dict[str, str]) -> bytes:
    """Return columns as a table, with metadata on its schema."""
    import arro3.core as ac  # noqa: PLC0415
    import arro3.io as aio  # noqa: PLC0415

    arrays: dict[str, Any] = {
        name: ac.Array(column.values, type=getattr(ac.DataType, column.kind)()) for name, column in columns.items()
    }
    table, buffer = ac.Table.from_pydict(arrays, metadata=metadata), io.BytesIO()
    if media_type == PARQUET:
        aio.write_parquet(table, buffer)
    elif media_type == ARROW_FILE:
        aio.write_ipc(table, buffer)
    else:
        aio.write_ipc_stream(table, buffer)
    return buffer.getvalue()


def _values(ac: Any, name: str, column: Any, *, as_number: bool) -> Column:  # noqa: ANN401 - arro3's types
    wanted = ac.DataType.float64() if as_number else ac.DataType.large_string()
    # arro3 prints a type as `arro3.core.DataType<Date32>` and a line break.
    kind = str(column.type).strip().removeprefix("arro3.core.DataType<").removesuffix(">")
    problem = FieldProblem(name, f"is a column of {kind}", "numbers" if as_number else "strings")
    if as_number and ac.DataType.is_temporal(column.type):
        # A cast would make microseconds of some of them, which may even be within the range.
        raise Problem(422, f"column {name} has the wrong type: a date or time is no number", (problem,))
    try:
        # The cast also unpacks dictionaries.
        array = column.combine_chunks().cast(wanted)
    except Exception as error:
        raise Problem(422, f"column {name} has the wrong type: {error}", (problem,)) from error
    if not as_number and ac.DataType.is_floating(column.type):
        # A table's way to say that no value of a column is known, whatever the column holds otherwise.
        return [None if text == "NaN" else text for text in array.to_pylist()]
    if not array.null_count:
        values: Column = array.to_numpy()
        return values
    if not as_number or ac.DataType.is_numeric(column.type):
        return list(array.to_pylist())
    # The cast makes nulls of texts that are not numbers. Those are wrong, not missing.
    sent = column.combine_chunks().to_pylist()
    return [given if number is None else number for number, given in zip(array.to_pylist(), sent, strict=True)]
