"""Speed of the trainer, end to end, and of a plain Dataset + DataLoader loop, MLPClassifier and CatBoost.

python benchmarks/training/speed.py --rows 600000

Each contender runs in a separate process, on the same generated CSV, which it reads itself. For the trainer, the whole
process is timed, including imports, evaluation, export, MLflow's database and registration. The plain loop has the
trainer's network (with its cheaper dropout), batch size, validation split and number of epochs, and does nothing but
train; its imports are not counted. As its epochs all cost the same, two are measured and the rest is extrapolated.
Rows per second per epoch = training rows * epochs / seconds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contenders
import numpy as np

from trainer.data.dataset import Dataset, encode, held_out
from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, load_declaration
from trainer.data.reading import read_table
from trainer.data.synthetic import generate
from trainer.data.validation import validate

MEASURED_EPOCHS = 2


def prepare(csv: str) -> tuple[FeatureDeclaration, Dataset]:
    """Return the trainer's own training rows, read and validated with its code."""
    declaration = load_declaration(BUILT_IN_DECLARATION)
    table = read_table(csv, declaration, scratch=Path(), synthetic_rows=0, seed=0)
    frame = validate(table, declaration, minimum_rows=500)
    in_test = held_out(frame, declaration.names, share=0.2, seed=0)
    return declaration, encode(frame, declaration).take(np.flatnonzero(~in_test))


def with_plain_loop(csv: str, epochs: int) -> dict[str, float]:
    started = time.perf_counter()
    declaration, training = prepare(csv)
    before = time.perf_counter() - started
    loop = contenders.plain_loop(training, declaration, seed=0)
    for _ in range(MEASURED_EPOCHS):
        next(loop)
    per_epoch = (time.perf_counter() - started - before) / MEASURED_EPOCHS
    return {"rows": len(training), "epochs": epochs, "seconds": before + per_epoch * epochs}


def with_mlp_classifier(csv: str, _epochs: int) -> dict[str, float]:
    started = time.perf_counter()
    declaration, training = prepare(csv)
    model = contenders.mlp_classifier(declaration, seed=0, batch_rows=4096).fit(training.frame, training.target)
    return {"rows": len(training), "epochs": model[-1].n_iter_, "seconds": time.perf_counter() - started}


def with_catboost(csv: str, _epochs: int) -> dict[str, float]:
    started = time.perf_counter()
    declaration, training = prepare(csv)
    contenders.catboost(declaration, seed=0).fit(training.frame[list(declaration.names)], training.target)
    return {"rows": len(training), "epochs": 0, "seconds": time.perf_counter() - started}


CONTENDERS = {"plain loop": with_plain_loop, "MLPClassifier": with_mlp_classifier, "CatBoost": with_catboost}


def ours(csv: str, folder: Path) -> dict[str, float]:
    """Time all of `python -m trainer`, including imports, logging and registration in its own store."""
    started = time.perf_counter()
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "TRAINER_WORK_DIR": str(folder),
    }
    command = [sys.executable, "-m", "trainer", "--data", csv]
    log = folder / "log"
    with log.open("w") as lines:
        process = subprocess.Popen(command, env=environment, cwd=folder, stderr=lines)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    text = log.read_text()
    if status:
        raise SystemExit(text)
    return {
        "rows": int(text.split(" training and ")[0].split()[-1]),
        "epochs": text.count(" of at most "),
        "seconds": seconds,
        "peak": used.ru_maxrss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=3, help="how often ours and the plain loop alternate")
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        name, csv, epochs = arguments.child
        result = CONTENDERS[name](csv, int(epochs))
        print(json.dumps({**result, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
        return
    # As the trainer does for itself, so that all contenders run under equal conditions on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print("| contender | training rows | epochs | seconds | rows/s/epoch | peak MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        csv = str(Path(scratch) / "loans.csv")
        generate(arguments.rows, 0).to_csv(csv, index=False)
        ratios = []
        for number in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as folder:
                whole = ours(csv, Path(folder))
            _print("ours (end to end)", whole)
            plain = _in_child("plain loop", csv, whole["epochs"])
            ratios.append(_speed(whole) / _speed(plain))
            print(f"round {number + 1}: ours / plain {ratios[-1]:.2f}", file=sys.stderr)
        for name in ("MLPClassifier", "CatBoost"):
            _in_child(name, csv, 0)
        print(f"\nours (end to end) / plain: median {np.median(ratios):.1f} of {', '.join(f'{r:.1f}' for r in ratios)}")


def _in_child(name: str, csv: str, epochs: float) -> dict[str, float]:
    child = [sys.executable, __file__, "--child", name, csv, str(int(epochs))]
    result: dict[str, float] = json.loads(subprocess.run(child, stdout=subprocess.PIPE, check=True, text=True).stdout)
    _print(name, result)
    return result


def _speed(result: dict[str, float]) -> float:
    return result["rows"] * result["epochs"] / result["seconds"]


def _print(name: str, result: dict[str, float]) -> None:
    print(
        f"| {name} | {result['rows']:.0f} | {result['epochs']:.0f} | {result['seconds']:.1f} "
        f"| {_speed(result):,.0f} | {result['peak'] / 1024:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
