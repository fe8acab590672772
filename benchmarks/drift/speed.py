"""Seconds and memory of a drift report on generated decisions in Parquet, beside other ways to count them.

Applications have the 11 inputs of the default data's, seven of them numbers. Each way is a process of its own over the
same files, as the archive has them: 28 days in two files each.

- `report`: `python -m decisions drift`, all of it.
- `scan`: DuckDB reads the same columns and only parses the inputs: what no report can do without.
- `rows`: one row after the other in Python (msgspec, a dict of counters), the features alone.
- `frames`: pandas reads each day and counts by `cut` and `value_counts`, the features alone.

`rows` and `frames` are only run up to a million decisions: they take too long above.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("tests", "images/decisions/src", "images/mlflow/src", "images/training/src")
sys.path[:0] = [str(ROOT / source) for source in SOURCES]
DAYS = 28
FIRST = date(2026, 5, 1)
MOST_OF_SLOW = 1_000_000


def generate(folder, decisions):
    from unit.decisions.drift.portfolio import Habits, Portfolio

    habits = {date(2026, 5, 24): Habits(income=0.8)}
    # Four features of its own, and seven more.
    Portfolio(FIRST, DAYS, decisions // DAYS, habits, extra_features=7).write(folder)


def report(folder):
    from decisions.__main__ import main

    arguments = ["--decisions", folder, "--outcomes", folder / "outcomes.parquet",
                 "--contract", folder / "contract.json", "--reference", folder / "training-reference.json",
                 "--output", folder / "report.html",
                 "--days", 7, "--compare-days", DAYS - 7, "--exit-zero"]  # fmt: skip
    assert main(["drift", *map(str, arguments)]) == 0


def scan(folder):
    import duckdb

    shape = json.dumps({name: "VARCHAR" if kind == "categorical" else "DOUBLE" for name, kind, _ in features(folder)})
    connection = duckdb.connect(config={"threads": 2})
    for inputs in sorted(folder.glob("archive/decision_inputs/*/*.parquet")):
        connection.execute(f"SELECT min(f::VARCHAR) FROM (SELECT from_json(inputs, '{shape}') AS f "
                           f"FROM read_parquet('{inputs}'))").fetchall()  # fmt: skip


def rows(folder):
    from bisect import bisect_right
    from collections import Counter

    import msgspec
    import pyarrow.parquet as pq

    known, counts = features(folder), Counter()
    for inputs in sorted(folder.glob("archive/decision_inputs/*/*.parquet")):
        for batch in pq.ParquetFile(inputs).iter_batches(columns=["inputs"]):
            for text in batch.column(0).to_pylist():
                values = msgspec.json.decode(text)
                for name, kind, edges in known:
                    value = values.get(name)
                    if kind == "numeric" and value is not None:
                        value = bisect_right(edges, value)
                    counts[name, str(value)] += 1


def frames(folder):
    from collections import Counter

    import msgspec
    import pandas as pd
    import pyarrow.parquet as pq

    known, counts = features(folder), Counter()
    decoder = msgspec.json.Decoder(list[dict])
    for inputs in sorted(folder.glob("archive/decision_inputs/*/*.parquet")):
        texts = pq.read_table(inputs, columns=["inputs"]).column(0).to_pylist()
        frame = pd.DataFrame.from_records(decoder.decode("[" + ",".join(texts) + "]"))
        for name, kind, edges in known:
            column = frame[name]
            values = pd.cut(column, [-float("inf"), *edges, float("inf")]) if kind == "numeric" else column.astype(str)
            counts.update({(name, str(value)): count for value, count in values.value_counts(dropna=False).items()})


def features(folder):
    """Return name, kind and edges of each feature."""
    reference = json.loads((folder / "training-reference.json").read_text())["features"]
    return [(name, of["kind"], of.get("edges", [])) for name, of in reference.items()]


WAYS = {"report": report, "scan": scan, "rows": rows, "frames": frames}


def measured(way, folder):
    """Return seconds, those of processors, and MB at most of a way in a process of its own."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    busy, kilobytes = map(float, done.stdout.rsplit("\n", 2)[-2].split())
    return seconds, busy, kilobytes / 1024


def peak_kilobytes():
    """Return the most memory that this program had. `ru_maxrss` would be that of the process that started it, too."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where to generate; a temporary folder if not given")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        WAYS[options.way](options.folder)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_utime + used.ru_stime, peak_kilobytes())
        return
    for decisions in options.decisions:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name) / "decisions"
            generate(folder, decisions)
            ways = WAYS if decisions <= MOST_OF_SLOW else ("report", "scan")
            for way in ways:
                seconds, busy, megabytes = measured(way, folder)
                print(f"{decisions:>11,} {way:8} {seconds:7.1f} s, {busy:7.1f} s of processors, {megabytes:5.0f} MB",
                      flush=True)  # fmt: skip
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
