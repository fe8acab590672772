"""The trainer end to end beside a plain Dataset + DataLoader loop, scikit-learn's MLPClassifier and CatBoost.

python benchmarks/training/speed.py --rows 600000

Each contender runs in a process of its own, on the same generated CSV, and reads it itself. The plain loop has the
trainer's network (with its cheaper dropout), batch size, validation split and number of epochs, and does no evaluation,
export or logging; because each of its epochs costs the same, two are measured and the rest is reckoned. Rows per
second per epoch = training rows * epochs / seconds.
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

import numpy as np

from trainer.synthetic import generate

MEASURED_EPOCHS = 2


def prepare(csv: str):  # type: ignore[no-untyped-def]
    from trainer.dataset import encode, held_out
    from trainer.features import BUILT_IN_DECLARATION, load_declaration
    from trainer.reading import read_table
    from trainer.validation import validate

    declaration = load_declaration(BUILT_IN_DECLARATION)
    table = read_table(csv, declaration, scratch=Path(), synthetic_rows=0, seed=0)
    frame = validate(table, declaration, minimum_rows=500)
    apart = held_out(frame, declaration.names, share=0.2, seed=0)
    data = encode(frame, declaration)
    return declaration, data.take(np.flatnonzero(~apart)), data.take(np.flatnonzero(apart))


def plain_loop(csv: str, epochs: int) -> dict[str, float]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from trainer.hyperparameters import Hyperparameters
    from trainer.network import Encoding, RiskNetwork

    started = time.perf_counter()
    declaration, training, _ = prepare(csv)
    chosen = Hyperparameters().for_rows(len(training))
    counts = tuple(len(feature.categories) for feature in declaration.categorical)
    ordered = tuple(feature.ordered for feature in declaration.categorical)
    network = RiskNetwork(Encoding.fit(training.numeric, counts, ordered, bins=chosen.bins), chosen.architecture)
    data = TensorDataset(*(torch.from_numpy(a) for a in (training.numeric, training.categorical, training.target)))
    # Like the trainer: four fifths to learn from, one fifth to stop by.
    learned, held = torch.utils.data.random_split(data, [1 - 1 / chosen.folds, 1 / chosen.folds])
    loader = DataLoader(learned, batch_size=chosen.batch_rows, shuffle=True)
    validation = DataLoader(held, batch_size=chosen.batch_rows)
    optimizer = torch.optim.AdamW(network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    before = time.perf_counter() - started
    for _ in range(MEASURED_EPOCHS):
        network.train()
        for numeric, categorical, target in loader:
            logits = network(numeric, categorical)
            loss = loss_of(logits, target.expand_as(logits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for numeric, categorical, target in validation:
                logits = network(numeric, categorical)
                loss_of(logits, target.expand_as(logits))
    per_epoch = (time.perf_counter() - started - before) / MEASURED_EPOCHS
    return {"rows": len(training), "epochs": epochs, "seconds": before + per_epoch * epochs}


def mlp_classifier(csv: str, _epochs: int) -> dict[str, float]:
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    started = time.perf_counter()
    declaration, training, _ = prepare(csv)
    columns = make_column_transformer(
        (StandardScaler(), [f.name for f in declaration.numeric]),
        (OneHotEncoder(sparse_output=False), [f.name for f in declaration.categorical]),
    )
    model = MLPClassifier((64, 64), batch_size=4096, early_stopping=True, n_iter_no_change=4, random_state=0)
    make_pipeline(columns, model).fit(training.frame, training.target)
    return {"rows": len(training), "epochs": model.n_iter_, "seconds": time.perf_counter() - started}


def catboost(csv: str, _epochs: int) -> dict[str, float]:
    from catboost import CatBoostClassifier

    started = time.perf_counter()
    declaration, training, _ = prepare(csv)
    names = [feature.name for feature in declaration.categorical]
    model = CatBoostClassifier(iterations=600, depth=5, cat_features=names, verbose=0, allow_writing_files=False)
    model.fit(training.frame[list(declaration.names)], training.target)
    return {"rows": len(training), "epochs": 0, "seconds": time.perf_counter() - started}


CONTENDERS = {"plain": plain_loop, "mlp": mlp_classifier, "catboost": catboost}


def ours(csv: str, folder: Path) -> dict[str, float]:
    """The whole `python -m trainer`, imports included, logged to and registered in a store of its own."""
    started = time.perf_counter()
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "TRAINER_WORK_DIR": str(folder),
    }
    command = [sys.executable, "-m", "trainer", "--data", csv, "--json"]
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _, log = process.communicate()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if process.returncode:
        raise SystemExit(log)
    epochs = log.count(" of at most ")
    rows = int(log.split(" training and ")[0].split()[-1])
    return {"rows": rows, "epochs": epochs, "seconds": time.perf_counter() - started, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        name, csv, epochs = arguments.child
        print(
            json.dumps(
                {**CONTENDERS[name](csv, int(epochs)), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            )
        )
        return
    # As the trainer does for itself: all contenders on equal terms where the machine is not idle.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as scratch:
        csv = str(Path(scratch) / "loans.csv")
        generate(arguments.rows, 0).to_csv(csv, index=False)
        results = {"ours (end to end)": ours(csv, Path(scratch))}
        _print("ours (end to end)", results["ours (end to end)"], head=True)
        for name in CONTENDERS:
            child = [sys.executable, __file__, "--child", name, csv, str(results["ours (end to end)"]["epochs"])]
            answer = subprocess.run(child, stdout=subprocess.PIPE, check=True, text=True).stdout
            results[name] = json.loads(answer)
            _print(name, results[name])
        ratio = _speed(results["ours (end to end)"]) / _speed(results["plain"])
        print(f"ours (end to end) / plain: {ratio:.1f}")


def _speed(result: dict[str, float]) -> float:
    return result["rows"] * result["epochs"] / result["seconds"]


def _print(name: str, result: dict[str, float], *, head: bool = False) -> None:
    if head:
        print("| contender | training rows | epochs | seconds | rows/s/epoch | peak MB |\n|---|---|---|---|---|---|")
    print(
        f"| {name} | {result['rows']:.0f} | {result['epochs']:.0f} | {result['seconds']:.1f} "
        f"| {_speed(result):,.0f} | {result['peak'] / 1024:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
