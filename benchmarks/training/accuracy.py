"""Accuracy of the trainer's network and of alternatives on seeded 80/20 splits.

python benchmarks/training/accuracy.py [loans.csv] --seeds 5 --first-seed 200 --models ours catboost
python benchmarks/training/accuracy.py loans.csv --monotonic credit_score=decreasing --models ours "ours, free"
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from contenders import catboost, mlp_classifier, plain_loop, without_gaps
from learners import hist_gradient_boosting, ours

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, load_declaration
from trainer.data.reading import read_table
from trainer.data.resolution import resolve
from trainer.data.validation import validate
from trainer.evaluation.metrics import Metrics, measure
from trainer.learning.hyperparameters import Hyperparameters

Vector = npt.NDArray[np.float64]


def with_catboost(training: Dataset, test: Dataset, declaration: FeatureDeclaration, seed: int) -> Vector:
    """Return the same from CatBoost with its defaults."""
    names = list(declaration.names)
    learned, asked = (without_gaps(rows.frame[names], declaration) for rows in (training, test))
    model = catboost(declaration, seed=seed).fit(learned, training.target)
    return np.asarray(model.predict_proba(asked)[:, 1], dtype=np.float64)


def with_mlp_classifier(training: Dataset, test: Dataset, declaration: FeatureDeclaration, seed: int) -> Vector:
    """Return the same from scikit-learn with its default batch size."""
    model = mlp_classifier(declaration, seed=seed, batch_rows=200).fit(training.frame, training.target)
    return np.asarray(model.predict_proba(test.frame)[:, 1], dtype=np.float64)


def with_plain_loop(training: Dataset, test: Dataset, declaration: FeatureDeclaration, seed: int) -> Vector:
    """Return the same from a plain loop that waits as long for a better validation loss as the trainer."""
    best, answer, waited = np.inf, np.empty(0), 0
    patience = Hyperparameters().for_rows(len(training)).patience
    for network, loss in plain_loop(training, declaration, seed=seed):
        waited += 1
        if loss < best:
            best, waited = loss, 0
            with torch.no_grad():
                logit = network(torch.from_numpy(test.numeric), torch.from_numpy(test.categorical)).mean(dim=0)
            answer = torch.sigmoid(logit).numpy().astype(np.float64)
        if waited == patience:
            break
    return answer


Contender = Callable[[Dataset, Dataset, FeatureDeclaration, int], Vector]


def with_directions(declaration: FeatureDeclaration, directions: Mapping[str, str | None]) -> FeatureDeclaration:
    """Return a declaration with other directions of the named features."""
    if unknown := sorted(set(directions) - set(declaration.names)):
        raise SystemExit(f"--monotonic: not declared: {', '.join(unknown)}")
    document = declaration.model_dump(mode="json")
    for feature in document["features"]:
        feature["monotonic"] = directions.get(feature["name"], feature["monotonic"])
    return FeatureDeclaration.model_validate(document)


def without_directions(contender: Contender) -> Contender:
    """Return a contender that promises no direction."""

    def free(training: Dataset, test: Dataset, declaration: FeatureDeclaration, seed: int) -> Vector:
        return contender(training, test, with_directions(declaration, dict.fromkeys(declaration.names)), seed)

    return free


CONTENDERS: dict[str, Contender] = {
    "ours": lambda training, test, *rest: ours(training, *rest)(test),
    "catboost": with_catboost,
    "HistGradientBoosting": lambda training, test, *rest: hist_gradient_boosting(training, *rest)(test),
    "plain loop": with_plain_loop,
    "MLPClassifier": with_mlp_classifier,
}
DEFAULT = list(CONTENDERS)
# The same without the declaration's directions: what those cost.
CONTENDERS |= {f"{name}, free": without_directions(CONTENDERS[name]) for name in ("ours", "HistGradientBoosting")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default="synthetic", help="CSV file, URL or synthetic (default)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=200, help="seed of the first split and of all contenders")
    parser.add_argument("--features", type=Path, default=BUILT_IN_DECLARATION)
    parser.add_argument("--monotonic", nargs="+", default=[], metavar="FEATURE=DIRECTION", help="replace the declared")
    parser.add_argument("--models", nargs="+", choices=CONTENDERS, default=DEFAULT)
    arguments = parser.parse_args()
    directions = dict(each.split("=", 1) for each in arguments.monotonic)
    declaration = with_directions(load_declaration(arguments.features), directions)
    table = read_table(arguments.data, declaration, scratch=Path(), synthetic_rows=20_000, seed=0)
    frame = validate(table, declaration, minimum_rows=500)
    declaration = resolve(declaration, frame, np.ones(len(frame), dtype=bool))
    data = encode(frame, declaration)
    names = [field.name for field in fields(Metrics)]
    print("| seed | model | " + " | ".join(names) + " | seconds |\n|" + "---|" * (len(names) + 3))
    results: dict[str, list[tuple[float, ...]]] = {name: [] for name in arguments.models}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        order = np.random.default_rng(seed).permutation(len(data))
        test, training = data.take(order[: len(data) // 5]), data.take(order[len(data) // 5 :])
        for model in arguments.models:
            started = time.perf_counter()
            metrics = measure(test.target, CONTENDERS[model](training, test, declaration, seed))
            seconds = time.perf_counter() - started
            results[model].append((*astuple(metrics), seconds))
            print(f"| {seed} | {model} | " + " | ".join(f"{v:.4f}" for v in results[model][-1]) + " |", flush=True)
    means = {model: np.mean(rows, axis=0) for model, rows in results.items()}
    for model, mean in means.items():
        print(f"| mean | {model} | " + " | ".join(f"{v:.4f}" for v in mean) + " |")
    if {"ours", "catboost"} <= means.keys():
        ratio = means["ours"] / means["catboost"]
        print("| ours / catboost | | " + " | ".join(f"{v:.4f}" for v in ratio) + " |")


if __name__ == "__main__":
    main()
