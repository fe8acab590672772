"""The training run, from data to promoted version, readable from top to bottom."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient

from trainer.data import DataError, Loans, read_loans
from trainer.evaluation import best_threshold, evaluate
from trainer.export import write_contract, write_model
from trainer.fit import Epoch, Hyperparameters, fit, predict
from trainer.publish import promote, register, wait_for_server

log = logging.getLogger("trainer")

BAD_INPUT = 2
SHARES = (0.68, 0.12, 0.20)


def main() -> int:
    """Train one model and return the process's exit code: 0 done, 2 the data or arguments are bad."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    arguments = _parser().parse_args()
    parameters = Hyperparameters(**{field.name: getattr(arguments, field.name) for field in fields(Hyperparameters)})
    try:
        loans = read_loans(arguments.data)
    except DataError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is the report; a traceback would hide it
        return BAD_INPUT
    log.info("%d loans from %s, %.2f %% defaulted", len(loans), loans.source, 100 * loans.default.mean())
    wait_for_server(mlflow.get_tracking_uri())
    version = train(loans, parameters, arguments.model_name, Path(arguments.work_dir))
    log.info("version %s of %s is in Production", version, arguments.model_name)
    return 0


def train(loans: Loans, parameters: Hyperparameters, model_name: str, work: Path) -> str:
    """Train, evaluate, export, register and promote; return the new version's number."""
    training, validation, test = split(loans, parameters.seed)
    client = MlflowClient()
    mlflow.set_experiment(model_name)
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as scratch:
        run_id = run.info.run_id
        client.set_tag(run_id, "data.sha256", loans.sha256)
        mlflow.log_params({**asdict(parameters), "data": loans.source, "rows": len(loans)})

        def log_epoch(epoch: Epoch) -> None:
            losses = {"training_loss": epoch.training_loss, "validation_loss": epoch.validation_loss}
            mlflow.log_metrics(losses, step=epoch.number)

        network = fit(training, validation, parameters, work / "checkpoint.pt", log_epoch)
        scores = predict(network, test)
        metrics = evaluate(test.default, scores)
        mlflow.log_metrics({f"test_{name}": value for name, value in asdict(metrics).items()})
        log.info("on %d test rows: %s", len(test), ", ".join(f"{k} {v:.4f}" for k, v in asdict(metrics).items()))

        folder = Path(scratch) / "model"
        write_model(network, test, folder)
        threshold = best_threshold(validation.default, predict(network, validation))
        contract = folder / "contract.json"
        write_contract(contract, model_name=model_name, training=training, scores=scores, threshold=threshold)
        tags = {"data.sha256": loans.sha256, "git.revision": os.environ.get("GIT_REVISION", "unknown")}
        version = register(client, model_name, run_id, folder, tags, metrics)
        promote(client, model_name, version)
    return version


def split(loans: Loans, seed: int) -> tuple[Loans, Loans, Loans]:
    """Part the loans at random, always alike for the same seed, into training, validation and test rows."""
    order = np.random.default_rng(seed).permutation(len(loans))
    first, second = int(SHARES[0] * len(loans)), int((SHARES[0] + SHARES[1]) * len(loans))
    return loans.rows(order[:first]), loans.rows(order[first:second]), loans.rows(order[second:])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainer", description=__doc__)
    parser.add_argument("--data", required=True, help="a CSV file's path, s3://bucket/key, or synthetic")
    parser.add_argument("--model-name", default="credit-risk", help="name in the registry (default: %(default)s)")
    parser.add_argument(
        "--work-dir", default=os.environ.get("TRAINER_WORK_DIR", "."),
        help="where checkpoints are kept (default: TRAINER_WORK_DIR, else the current folder)",
    )  # fmt: skip
    for field in fields(Hyperparameters):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=type(field.default), default=field.default, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
