"""Reads Parquet in a process of its own with limited memory and time: a hostile file can kill its reader.

As a program, it reads a file's path from its arguments and writes rows as lines of JSON.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from decisions.errors import UsageError
from decisions.outcomes.rows import FIELDS, RawRow

_MEMORY_BYTES = 1 << 30
_CPU_SECONDS = 600
_BATCH_ROWS = 10_000
_PROBLEM_EXIT_CODE = 3


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file.

    Raises:
        UsageError: It is not one, or its columns are none of outcomes.
    """
    command = [sys.executable, "-m", "decisions.outcomes.parquet", str(path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            for number, line in enumerate(process.stdout, 1):
                yield RawRow(number, msgspec.json.decode(line))
        except GeneratorExit:
            process.kill()
            raise
        code = process.wait()
        if code == _PROBLEM_EXIT_CODE:
            errors.seek(0)
            raise UsageError(errors.read(4000).decode("utf-8", "replace").strip())
        if code:
            raise UsageError("the file cannot be read as Parquet within the memory and time allowed for it")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write_rows(path: str) -> None:
    import pyarrow as pa  # noqa: PLC0415 - after the limits
    import pyarrow.parquet as pq  # noqa: PLC0415

    encoder = msgspec.json.Encoder()
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if not set(FIELDS).intersection(names):
                raise UsageError(f"the file has none of the columns {', '.join(FIELDS)}")
            if len(set(names)) != len(names):
                raise UsageError("the file has two columns of one name")
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                rows = [{name: _plain(value) for name, value in row.items()} for row in batch.to_pylist()]
                sys.stdout.buffer.write(encoder.encode_lines(rows))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"the file is not Parquet: {error}") from error


def _plain(value: object) -> object:
    """Return a value as JSON has it: dates and times become text, bytes are an id if there are 16."""
    if isinstance(value, bytes) and len(value) == 16:
        hexadecimal = value.hex()
        parts = (hexadecimal[:8], hexadecimal[8:12], hexadecimal[12:16], hexadecimal[16:20], hexadecimal[20:])
        return "-".join(parts)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    # datetime and date; of anything else, the text is refused by the row's checks.
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


if __name__ == "__main__":
    _limit()
    try:
        _write_rows(sys.argv[1])
    except UsageError as error:
        sys.stderr.write(str(error))
        sys.exit(_PROBLEM_EXIT_CODE)
