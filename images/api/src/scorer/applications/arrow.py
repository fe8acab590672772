"""Arrow and Parquet, by arro3: the Rust readers at a tenth of pyarrow's size. They run in a process apart."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scorer.applications.sandbox import Apart, EndedError
from scorer.applications.tables import MOST_ROWS, Column, check_rows, refuse_repeated
from scorer.problems import FieldProblem, Problem

ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
TYPES = (ARROW_STREAM, ARROW_FILE, PARQUET)
_BATCH_ROWS = 1024
# Arrow types and values, by column.
Columns = Mapping[str, tuple[str, Sequence[Any]]]
_PARQUET_MARK = b"PAR1"
# A table of 10,000 applications takes a tenth of it.
MOST_BYTES = 128 * 1024 * 1024


class TableCodec:
    """Reads and writes tables, in a process that may end without harm to this one."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Take how much memory reading may use, in bytes."""
        self._apart, self._most_bytes = Apart(most_bytes), most_bytes

    def read(self, body: bytes, media_type: str, numeric: Sequence[str]) -> dict[str, Column]:
        """Return what `read_columns` does.

        Raises:
            Problem: what `read_columns` raises, and 422 for a table that takes too much memory to read.
        """
        try:
            return self._apart.run(read_columns, body, media_type, numeric)
        except EndedError:
            most = f"{self._most_bytes // 1024**2} MiB"
            raise Problem(422, f"the table could not be read with {most} of memory: large, or broken") from None

    def write(self, columns: Columns, media_type: str, metadata: dict[str, str]) -> bytes:
        """Return what `write_table` does."""
        return self._apart.run(write_table, columns, media_type, metadata)


def read_columns(body: bytes, media_type: str, numeric: Sequence[str]) -> dict[str, Column]:
    """Return a table's columns: float64 for the numeric ones, else Python strings, None where a value is missing.

    Raises:
        Problem: 400 when the body is no such table, 413 for too many rows, 422 for a column of another type.
    """
    import arro3.core as ac  # noqa: PLC0415 - only the process apart needs it
    import arro3.io as aio  # noqa: PLC0415

    readers: dict[str, Callable[[bytes], Any]] = {
        ARROW_STREAM: aio.read_ipc_stream,
        ARROW_FILE: aio.read_ipc,
        PARQUET: lambda data: aio.read_parquet(data, batch_size=_BATCH_ROWS),
    }
    batches, count = [], 0
    if media_type == PARQUET and not (body.startswith(_PARQUET_MARK) and body.endswith(_PARQUET_MARK)):
        raise Problem(400, "the body is no Parquet file: its marks are missing")
    try:
        reader = readers[media_type](body)
        # One batch after the other, so that a small file of endless rows is refused before it is read.
        for batch in reader:
            count += batch.num_rows
            if count > MOST_ROWS:
                break
            batches.append(batch)
        table = ac.Table.from_batches(batches, schema=reader.schema)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise Problem(400, f"the body is no {media_type}: {error}") from error
    check_rows(count)
    names = table.column_names
    refuse_repeated(names)
    return {name: _column(ac, name, table.column(name), as_number=name in numeric) for name in names}


def write_table(columns: Columns, media_type: str, metadata: dict[str, str]) -> bytes:
    """Return columns of (Arrow type, values) as a table, with metadata on its schema."""
    import arro3.core as ac  # noqa: PLC0415
    import arro3.io as aio  # noqa: PLC0415

    arrays: dict[str, Any] = {
        name: ac.Array(values, type=getattr(ac.DataType, kind)()) for name, (kind, values) in columns.items()
    }
    table, buffer = ac.Table.from_pydict(arrays, metadata=metadata), io.BytesIO()
    if media_type == PARQUET:
        aio.write_parquet(table, buffer)
    elif media_type == ARROW_FILE:
        aio.write_ipc(table, buffer)
    else:
        aio.write_ipc_stream(table, buffer)
    return buffer.getvalue()


def _column(ac: Any, name: str, column: Any, *, as_number: bool) -> Column:  # noqa: ANN401 - arro3's
    wanted = ac.DataType.float64() if as_number else ac.DataType.large_string()
    try:
        # The cast also unpacks dictionaries; what it cannot read as a number becomes a missing value.
        array = column.combine_chunks().cast(wanted)
        values: Column = array.to_pylist() if array.null_count else array.to_numpy()
    except Exception as error:
        problem = FieldProblem(name, f"is a column of {column.type}", "numbers" if as_number else "strings")
        raise Problem(422, f"column {name} is of another type: {error}", (problem,)) from error
    return values
