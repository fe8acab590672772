"""Time and peak memory of a training run on Parquet that is read part by part, and beside it in memory if asked.

python benchmarks/training/large.py --rows 10000000 --in-memory

The rows are drawn by the trainer's synthetic generator, half a million at a time, and written to a temporary folder,
whose volume also takes the rows in files. The trainer's own process is measured from its start, including imports,
evaluation, export, and registration in MLflow's database. As all epochs cost the same, a few are enough. Peak memory is
the most that was resident at any time, with the pages of mapped files, which the kernel would give back.
"""

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PART_ROWS = 500_000
# The parent stays small and imports nothing large: what a process is started from would count as its peak.
GENERATE = """
import sys, pyarrow as pa, pyarrow.parquet as pq
from trainer.data.synthetic import generate
rows, part, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
writer = None
for number, first in enumerate(range(0, rows, part)):
    frame = generate(min(part, rows - first), number)
    frame["id"] += first
    table = pa.Table.from_pandas(frame, preserve_index=False)
    writer = writer or pq.ParquetWriter(path, table.schema)
    writer.write_table(table)
writer.close()
"""
TRAIN = """
import sys, pathlib
from trainer.__main__ import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print("peak", *(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""
ENDS = {
    "start and read, validate, split": " training and ",
    "fit": " of at most ",
    "evaluate": "gate ",
    "register": "registered version",
}


@dataclass(frozen=True)
class Measured:
    """A run: the seconds of each step, those of an epoch, training rows, and peak memory in MiB."""

    steps: dict[str, float]
    epoch: float
    training_rows: int
    seconds: float
    peak: float


def train(data: Path, folder: Path, arguments: list[str]) -> Measured:
    """Run the trainer on a file, with its scratch folder and its store in `folder`."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "TRAINER_WORK_DIR": str(folder),
        "TRAINER_SCRATCH_DIR": str(folder),
    }
    started, clock = dt.datetime.now(), time.perf_counter()  # noqa: DTZ005 - the log's times are local, too
    command = [sys.executable, "-c", TRAIN, "--data", str(data), *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - clock
    # A gate may refuse what so few epochs have learned.
    if done.returncode not in {0, 3}:
        raise SystemExit(done.stderr)
    return read_log(done.stderr.splitlines(), started, seconds)


def read_log(lines: list[str], started: dt.datetime, seconds: float) -> Measured:
    """Find out what took how long from the times of log lines."""
    steps, before = {}, started
    for step, mark in ENDS.items():
        last = next((line for line in reversed(lines) if mark in line and re.match(r"\d{4}-", line)), None)
        if last is None:
            raise SystemExit("\n".join(lines))
        ended = dt.datetime.strptime(last.split(" trainer")[0].rsplit(" ", 1)[0], "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007
        steps[step], before = (ended - before).total_seconds(), ended
    (rows,) = (
        line.split(ENDS["start and read, validate, split"])[0].split()[-1] for line in lines if " training and " in line
    )
    epochs = sum(" of at most " in line for line in lines)
    (peak,) = (line.split()[1] for line in lines if line.startswith("peak "))
    return Measured(steps, steps["fit"] / epochs, int(rows), seconds, int(peak) / 1024)


def show(name: str, rows: int, found: Measured) -> None:
    """Print a run as a table."""
    print(f"\n{name}: {rows:,} rows, {found.seconds:.0f} s, peak {found.peak:,.0f} MiB resident")
    print("| step | seconds | rows/s |\n|---|---|---|")
    for step, seconds in found.steps.items():
        if step != "fit":
            print(f"| {step} | {seconds:.1f} | {rows / seconds:,.0f} |")
    print(f"| fit, one epoch | {found.epoch:.1f} | {found.training_rows / found.epoch:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--in-memory", action="store_true", help="run it in memory, too")
    parser.add_argument("--folder", type=Path, default=None, help="where to create the temporary folder")
    arguments = parser.parse_args()
    ways = {"part by part": 0} | ({"in memory": sys.maxsize} if arguments.in_memory else {})
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        data = Path(scratch) / "loans.parquet"
        subprocess.run([sys.executable, "-c", GENERATE, str(arguments.rows), str(PART_ROWS), str(data)], check=True)
        print(f"{data.stat().st_size / 2**20:,.0f} MiB of Parquet", flush=True)
        for name, streamed in ways.items():
            folder = Path(scratch) / name.replace(" ", "-")
            folder.mkdir()
            epochs = [f"--epochs={arguments.epochs}", f"--streamed-values={streamed}"]
            show(name, arguments.rows, train(data, folder, epochs))


if __name__ == "__main__":
    main()
