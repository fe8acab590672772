"""The trainer's linear models beside scikit-learn's other solvers: CPU time, peak memory, and log loss.

python benchmarks/training/linear.py --data ../shared/data --sets loans "many categories" --seeds 3

All fit a logistic regression per fold under each penalty to the same encoded rows, and choose the penalty that predicts
the left-out folds best. Fits start where those of the higher penalty ended. Each runs in a process of
its own; its peak memory is what the fit adds. OMP_NUM_THREADS is the number of threads of all of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import REAL, Split, draw, read
from generated import RECIPES
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor
from torch.nn.functional import softplus

from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.linear import PENALTIES, ROWS, LinearModels, fit_linear
from trainer.learning.masking import mask
from trainer.learning.network import Encoder, Encoding

_BIN_SPREAD = 0.5
_CHOSEN = Hyperparameters()


@dataclass(frozen=True)
class Rows:
    """Encoded training rows with the fold of each, and how freely each column's weight may grow."""

    encoded: Tensor
    target: Tensor
    fold: Tensor
    spread: Tensor


def trainers(rows: Rows) -> LinearModels:
    return fit_linear(
        rows.encoded,
        rows.target,
        rows.fold,
        folds=_CHOSEN.folds,
        spread=rows.spread,
        directions=torch.zeros_like(rows.spread),
    )


def with_another_solver(rows: Rows, solver: str) -> LinearModels:
    columns, target, fold = (rows.encoded * rows.spread).numpy(), rows.target.numpy(), rows.fold.numpy()
    chosen = np.arange(min(ROWS, len(columns))) * len(columns) // min(ROWS, len(columns))
    columns, target, fold = columns[chosen].astype(np.float64), target[chosen], fold[chosen]
    found = np.empty((len(PENALTIES), _CHOSEN.folds, columns.shape[1] + 1))
    losses = np.zeros(len(PENALTIES))
    for left_out in range(_CHOSEN.folds):
        model = LogisticRegression(solver=solver, warm_start=True, max_iter=1_000)
        trained = fold != left_out
        for index, penalty in enumerate(PENALTIES):
            model.set_params(C=1 / penalty).fit(columns[trained], target[trained])
            found[index, left_out] = [*model.coef_[0], *model.intercept_]
            logit = torch.from_numpy(model.decision_function(columns[~trained]))
            losses[index] += float((softplus(logit) - torch.from_numpy(target[~trained]) * logit).sum())
    best = int(losses.argmin())
    weights = torch.from_numpy(found[best]).float()
    return LinearModels(weights[:, :-1] * rows.spread, weights[:, -1].contiguous(), PENALTIES[best])


SOLVERS: dict[str, Callable[[Rows], LinearModels]] = {
    "the trainer's": trainers,
    "newton-cholesky": partial(with_another_solver, solver="newton-cholesky"),
    "lbfgs": partial(with_another_solver, solver="lbfgs"),
}


@dataclass(frozen=True)
class Result:
    """What one solver reached on one set; losses are mean log losses, of left-out folds and of test rows."""

    rows: int
    columns: int
    seconds: float
    megabytes: float
    penalty: float
    out_of_fold: float
    test: float


def measure(name: str, seed: int, solver: str, data: Path) -> Result:
    """Fit once, in this process."""
    split: Split = read(data / REAL[name], seed) if name in REAL else draw(name, seed)
    training = mask(split.training, split.declaration.inputs, seed=seed)
    encoder = Encoder(Encoding.fit(training.numeric, split.declaration.inputs, bins=_CHOSEN.bins))

    def encoded(numeric: np.ndarray, categorical: np.ndarray) -> Tensor:
        result: Tensor = encoder(torch.from_numpy(numeric), torch.from_numpy(categorical))
        return result

    spread = torch.ones(encoder.out_features)
    spread[encoder.bins] = _BIN_SPREAD
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(training)) % _CHOSEN.folds)
    rows = Rows(encoded(training.numeric, training.categorical), torch.from_numpy(training.target), fold, spread)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    models = SOLVERS[solver](rows)
    seconds = time.process_time() - started
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    asked = encoded(split.test.numeric, split.test.categorical) @ models.weight.mean(0) + models.bias.mean(0)
    return Result(
        rows=len(training),
        columns=encoder.out_features,
        seconds=seconds,
        megabytes=megabytes,
        penalty=models.penalty,
        out_of_fold=float(log_loss(training.target, torch.sigmoid(models.out_of_fold(rows.encoded, fold)))),
        test=float(log_loss(split.test.target, torch.sigmoid(asked))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the files")
    parser.add_argument("--sets", nargs="+", choices=[*REAL, *RECIPES], default=[*REAL, *RECIPES])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=700)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, seed, solver = arguments.child
        print(json.dumps(asdict(measure(name, int(seed), solver, arguments.data))))
        return
    head = (
        "data set",
        "rows, columns",
        "solver",
        "CPU seconds",
        "peak MB",
        "penalties",
        "out-of-fold",
        "test log loss",
    )
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name in arguments.sets:
        found: dict[str, list[Result]] = {solver: [] for solver in SOLVERS}
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for solver, results in found.items():
                command = [sys.executable, __file__, "--data", arguments.data, "--child", name, str(seed), solver]
                printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
                results.append(Result(**json.loads(printed)))
        for solver, results in found.items():
            print(_line(name, solver, results), flush=True)


def _line(name: str, solver: str, results: list[Result]) -> str:
    seconds, megabytes = (np.median([getattr(one, field) for one in results]) for field in ("seconds", "megabytes"))
    out_of_fold, test = (np.mean([getattr(one, field) for one in results]) for field in ("out_of_fold", "test"))
    penalties = ", ".join(f"{one.penalty:g}" for one in results)
    size = f"{results[0].rows}, {results[0].columns}"
    return (
        f"| {name} | {size} | {solver} | {seconds:.2f} | {megabytes:.0f} | {penalties} | {out_of_fold:.6f} "
        f"| {test:.6f} |"
    )


if __name__ == "__main__":
    main()
