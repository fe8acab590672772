"""Time to read and validate a CSV file, beside pandas' parser alone and pyarrow's alone, in alternating runs.

python benchmarks/training/reading.py --rows 600000 --repeats 9
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.csv

from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration
from trainer.data.reading import read_table
from trainer.data.synthetic import generate
from trainer.data.validation import validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    declaration = load_declaration(BUILT_IN_DECLARATION)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "loans.csv"
        generate(arguments.rows, seed=3).to_csv(file, index=False)
        words = dict.fromkeys((feature.name for feature in declaration.categorical), "category")

        def ours() -> pd.DataFrame:
            return read_table(str(file), declaration, scratch=Path(scratch), synthetic_rows=0, seed=0).frame

        def ours_validated() -> pd.DataFrame:
            table = read_table(str(file), declaration, scratch=Path(scratch), synthetic_rows=0, seed=0)
            return validate(table, declaration, minimum_rows=1)

        contenders: dict[str, Callable[[], object]] = {
            "ours": ours,
            "ours, validated": ours_validated,
            "pandas": lambda: pd.read_csv(file, dtype=words, keep_default_na=False, na_values=[""], low_memory=False),
            "pyarrow": lambda: pyarrow.csv.read_csv(file).to_pandas(),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(arguments.repeats):
            for name, read in contenders.items():
                started = time.perf_counter()
                read()
                seconds[name].append(time.perf_counter() - started)
    print("| reader | seconds (median) | over pandas (median of pairs) |\n|---|---|---|")
    for name, times in seconds.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times, seconds["pandas"], strict=True))
        print(f"| {name} | {statistics.median(times):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
