"""Accuracy of the trainer and of other learners, each with its defaults, over several data sets and seeds.

python benchmarks/training/datasets.py --data ../shared/data --results results.json --models ours CatBoost --seeds 5

All models of a set and seed see the same rows. Each result is added to the file, and what it already holds is not run
again, so that the benchmark can run in pieces. OMP_NUM_THREADS is the number of threads of all of them.
"""

import argparse
import json
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from generated import RECIPES, generate
from learners import LEARNERS
from sklearn.metrics import log_loss, roc_auc_score

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, load_declaration
from trainer.data.reading import read_table
from trainer.data.resolution import resolve
from trainer.data.validation import validate
from trainer.evaluation.metrics import expected_calibration_error

_DECLARATIONS = Path(__file__).parent / "declarations"
REAL = {
    "loans": "loans.csv",
    "LendingClub": "lending_club_2016q1.csv",
    "credit_data": "modeldata_credit_data.csv",
    "German credit": "german.data",
}
# Generated rows are free, and more of them leave less to chance; the ECE is that of a fifth of the data all the same.
_GENERATED_TEST_ROWS = 20_000
_SIMULATIONS = 20

Vector = npt.NDArray[np.float64]
# Data set, model and seed.
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Split:
    """Rows to learn from and to be measured on.

    Attributes:
        test_rows: Rows that a fifth of the data has: the ECE is averaged over parts of the test rows of this size.
    """

    training: Dataset
    test: Dataset
    declaration: FeatureDeclaration
    test_rows: int


@dataclass(frozen=True)
class Result:
    """What one model reached on one set with one seed; `perfect_ece` is what chance alone would make of its ECE."""

    dataset: str
    model: str
    seed: int
    roc_auc: float
    log_loss: float
    ece: float
    perfect_ece: float
    seconds: float


def read(path: Path, seed: int) -> Split:
    """Split a file 80/20."""
    known = _DECLARATIONS / f"{path.stem}.json"
    declaration = load_declaration(known if known.exists() else BUILT_IN_DECLARATION)
    with TemporaryDirectory() as scratch:
        table = read_table(str(path), declaration, scratch=Path(scratch), synthetic_rows=0, seed=0)
        frame = validate(table, declaration, minimum_rows=500)
    order = np.random.default_rng(seed).permutation(len(frame))
    in_test = np.zeros(len(frame), dtype=bool)
    in_test[order[: len(frame) // 5]] = True
    declaration = resolve(declaration, frame, ~in_test)
    data = encode(frame, declaration)
    training, test = data.take(np.flatnonzero(~in_test)), data.take(np.flatnonzero(in_test))
    return Split(training, test, declaration, len(test))


def draw(name: str, seed: int) -> Split:
    """Generate a split."""
    recipe = RECIPES[name]
    own_seed = seed * 1_000 + zlib.crc32(name.encode()) % 1_000
    frame, declaration = generate(recipe, recipe.rows + _GENERATED_TEST_ROWS, own_seed)
    data = encode(frame, declaration)
    rows = np.arange(len(data))
    return Split(data.take(rows[: recipe.rows]), data.take(rows[recipe.rows :]), declaration, recipe.rows // 4)


def measure(split: Split, probability: Vector) -> dict[str, float]:
    """Measure probabilities of the test rows, and simulate outcomes that they predict perfectly."""
    target = split.test.target.astype(np.float64)
    starts = range(0, len(target) - split.test_rows + 1, split.test_rows)
    parts = [slice(start, start + split.test_rows) for start in starts]

    def ece(outcome: Vector) -> float:
        return float(np.mean([expected_calibration_error(outcome[part], probability[part]) for part in parts]))

    rng = np.random.default_rng(0)
    simulated = [ece((rng.random(len(target)) < probability).astype(np.float64)) for _ in range(_SIMULATIONS)]
    return {
        "roc_auc": float(roc_auc_score(target, probability)),
        "log_loss": float(log_loss(target, probability)),
        "ece": ece(target),
        "perfect_ece": float(np.mean(simulated)),
    }


def run(name: str, model: str, seed: int, split: Split) -> Result:
    """Train and measure one model."""
    started = time.perf_counter()
    predict = LEARNERS[model](split.training, split.declaration, seed)
    seconds = time.perf_counter() - started
    return Result(name, model, seed, **measure(split, predict(split.test)), seconds=seconds)


def run_all(results: dict[Key, Result], arguments: argparse.Namespace) -> Iterator[Result]:
    """Yield the results that are not yet known."""
    for name in arguments.sets:
        for seed in seeds(arguments):
            wanted = [model for model in arguments.models if (name, model, seed) not in results]
            if not wanted:
                continue
            split = read(arguments.data / REAL[name], seed) if name in REAL else draw(name, seed)
            for model in wanted:
                yield run(name, model, seed, split)


@dataclass(frozen=True)
class Mean:
    """The mean of one model's results on one set."""

    roc_auc: float
    log_loss: float
    ece_ratio: float
    seconds: float

    @classmethod
    def of(cls, results: list[Result]) -> "Mean":
        """Average the results; the ECE's ratio is that of the means, which few test rows disturb less."""
        columns = [[one.roc_auc, one.log_loss, one.ece, one.perfect_ece, one.seconds] for one in results]
        auc, loss, ece, perfect, seconds = np.mean(columns, axis=0).tolist()
        return cls(auc, loss, ece / perfect, seconds)


def by_set(results: Iterable[Result]) -> dict[str, dict[str, Mean]]:
    """Return the means per set and model."""
    grouped: dict[str, dict[str, list[Result]]] = {}
    for one in results:
        grouped.setdefault(one.dataset, {}).setdefault(one.model, []).append(one)
    return {name: {model: Mean.of(found) for model, found in models.items()} for name, models in grouped.items()}


def table(means: dict[str, dict[str, Mean]]) -> str:
    """Return each model's means per set as Markdown."""
    lines = ["| data set | model | ROC AUC | below the best | log loss | ECE / perfect | seconds |", "|" + "---|" * 7]
    for name, models in means.items():
        best = max(mean.roc_auc for mean in models.values())
        for model, mean in models.items():
            accuracy = f"{mean.roc_auc:.4f} | {best - mean.roc_auc:.4f} | {mean.log_loss:.4f} | {mean.ece_ratio:.2f}"
            lines.append(f"| {name} | {model} | {accuracy} | {mean.seconds:.1f} |")
    return "\n".join(lines)


def ranks(means: dict[str, dict[str, Mean]]) -> str:
    """Return each model's mean rank over the sets that it ran on as Markdown."""
    places: dict[str, list[tuple[int, int]]] = {}
    for models in means.values():
        for model, mean in models.items():
            by_auc = 1 + sum(other.roc_auc > mean.roc_auc for other in models.values())
            by_loss = 1 + sum(other.log_loss < mean.log_loss for other in models.values())
            places.setdefault(model, []).append((by_auc, by_loss))
    lines = ["| model | mean rank by ROC AUC | by log loss | sets |", "|---|---|---|---|"]
    for model, found in sorted(places.items(), key=lambda item: float(np.mean(item[1]))):
        by_auc, by_loss = np.mean(found, axis=0)
        lines.append(f"| {model} | {by_auc:.2f} | {by_loss:.2f} | {len(found)} |")
    return "\n".join(lines)


def seeds(arguments: argparse.Namespace) -> range:
    return range(arguments.first_seed, arguments.first_seed + arguments.seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the files")
    parser.add_argument("--sets", nargs="+", choices=[*REAL, *RECIPES], default=[*REAL, *RECIPES])
    # TabM takes minutes for a thousand rows on a CPU, and has to be asked for.
    usual = [name for name in LEARNERS if name != "TabM"]
    parser.add_argument("--models", nargs="+", choices=LEARNERS, default=usual)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=500)
    parser.add_argument("--results", type=Path, help="JSON file that holds results, and to which new ones are added")
    parser.add_argument("--json", action="store_true", help="print the results instead of tables")
    arguments = parser.parse_args()
    kept: Path | None = arguments.results
    known = [Result(**one) for one in json.loads(kept.read_text())] if kept and kept.exists() else []
    results = {(one.dataset, one.model, one.seed): one for one in known}
    for result in run_all(dict(results), arguments):
        results[result.dataset, result.model, result.seed] = result
        if kept:
            kept.write_text(json.dumps([asdict(one) for one in results.values()], indent=0))
    asked = [results[key] for key in product(arguments.sets, arguments.models, seeds(arguments)) if key in results]
    if arguments.json:
        print(json.dumps([asdict(one) for one in asked], indent=1))
    else:
        means = by_set(asked)
        print(table(means), ranks(means), sep="\n\n")


if __name__ == "__main__":
    main()
