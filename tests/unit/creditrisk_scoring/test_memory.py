"""The memory of a run does not depend on how large a row group is: measured of a process, as the kernel counts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unit.creditrisk_scoring.applications import applications

LIMIT_BYTES = 600 << 20
# Runs a command, and writes the most memory that it had.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""


def most_memory(source: Path, target: Path, model: Path, *options: str) -> int:
    """Return the largest resident size, in bytes, of a process that scores a folder."""
    command = [sys.executable, "-m", "creditrisk_scoring", "score", str(source), str(target), "--model", str(model)]
    ended = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command, "--json", *options], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout.splitlines()[-1])


@pytest.mark.soak
@pytest.mark.parametrize(
    ("rows", "options"), [(5_000_000, ()), (5_000_000, ("--where", "account > 10")), (200_000, ("--reasons", "4"))]
)
def test_a_file_of_one_large_row_group_is_scored_in_600_megabytes(
    tmp_path: Path, folder: Path, rows: int, options: tuple[str, ...]
) -> None:
    part = applications(100_000)
    (tmp_path / "in").mkdir()
    # Incompressible, and kept in the results: so the columns are large, too.
    noise = pa.array([os.urandom(16).hex() for _ in range(len(part))])
    whole = pa.concat_tables([part.append_column("note", noise)] * (rows // len(part)))
    pq.write_table(whole, tmp_path / "in" / "book.parquet", row_group_size=rows, use_dictionary=False)
    del whole
    most = most_memory(tmp_path / "in", tmp_path / "out", folder, *options)
    sys.stderr.write(f"{rows:,} rows in one row group {' '.join(options)}: {most / (1 << 20):.0f} MiB\n")
    assert most <= LIMIT_BYTES
