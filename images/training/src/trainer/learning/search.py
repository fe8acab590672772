"""Hyperparameter search: an Optuna study shared by parallel workers, scored on out-of-fold rows only."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import mlflow
import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from trainer.errors import BadInputError, TrackingError
from trainer.learning.fitting import EpochReport
from trainer.learning.hyperparameters import Hyperparameters

logger = logging.getLogger(__name__)

# The study is in MLflow's database, and both tools keep their schema revision in a table named alembic_version.
_SCHEMA = "optuna"
_PARENT_RUN = "mlflow_parent_run"
_POLL_SECONDS = 1.0

Objective = Callable[[Hyperparameters, Callable[[EpochReport], None]], float]


def search(
    objective: Objective,
    base: Hyperparameters,
    *,
    trials: int,
    study_name: str,
    storage_url: str,
    seed: int,
    worker: int,
    parent_run: str | None,
    wait_seconds: float,
) -> Hyperparameters:
    """Try hyperparameters until the study has `trials` complete trials from all workers together.

    Args:
        objective: Trains with given hyperparameters, reports each epoch, and returns the loss to minimize.
        base: The hyperparameters that are not searched.
        trials: Complete trials in the study, including those of an earlier, killed attempt.
        study_name: Name of the study; workers with the same name share it.
        storage_url: SQLAlchemy URL of the study.
        seed: Seed of the search; each worker derives its own, so that workers do not try the same.
        worker: Index of this worker, a tag of its trials' runs.
        parent_run: The MLflow run to nest all trials under; None waits for the one that worker 0 publishes.
        wait_seconds: How long to wait for worker 0.

    Returns:
        The best hyperparameters found.

    Raises:
        TrackingError: The study's database is unavailable, or worker 0 did not publish a parent run in time.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=_storage(storage_url),
            study_name=study_name,
            sampler=optuna.samplers.TPESampler(seed=seed + worker),
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=5),
            direction="minimize",
            load_if_exists=True,
        )
        if parent_run:
            study.set_user_attr(_PARENT_RUN, parent_run)
        else:
            parent_run = _published_parent_run(study, wait_seconds)
        counted = (TrialState.COMPLETE, TrialState.PRUNED)
        if len(study.get_trials(deepcopy=False, states=counted)) < trials:
            study.optimize(
                partial(_try, objective=objective, base=base, worker=worker, parent_run=parent_run),
                callbacks=[MaxTrialsCallback(trials, states=counted)],
            )
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        raise TrackingError(f"the study's database failed: {error}") from error
    logger.info("best of %d trials: loss %.5f with %s", len(study.trials), study.best_value, study.best_params)
    return _with(base, study.best_params)


def _published_parent_run(study: optuna.Study, wait_seconds: float) -> str:
    deadline = time.monotonic() + wait_seconds
    logger.info("waiting for worker 0 of the study %s", study.study_name)
    while (found := study.user_attrs.get(_PARENT_RUN)) is None:
        if time.monotonic() >= deadline:
            raise TrackingError(f"worker 0 of the study {study.study_name} did not start within {wait_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
    return str(found)


def _try(trial: optuna.Trial, *, objective: Objective, base: Hyperparameters, worker: int, parent_run: str) -> float:
    suggested = {
        "width": trial.suggest_categorical("width", [32, 64, 96, 128]),
        "layers": trial.suggest_int("layers", 1, 3),
        "bins": trial.suggest_int("bins", 4, 48, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "learning_rate": trial.suggest_float("learning_rate", 5e-4, 2e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.3, log=True),
    }
    hyperparameters = _with(base, suggested)
    with mlflow.start_run(run_name=f"trial-{trial.number}", nested=True, parent_run_id=parent_run):
        mlflow.set_tag("worker", str(worker))
        mlflow.log_params(asdict(hyperparameters))

        def on_epoch(report: EpochReport) -> None:
            mlflow.log_metrics(
                {"train_loss": report.train_loss, "validation_loss": report.validation_loss}, step=report.epoch
            )
            trial.report(report.validation_loss, report.epoch)
            if trial.should_prune():
                mlflow.set_tag("pruned", "true")
                raise optuna.TrialPruned

        loss = objective(hyperparameters, on_epoch)
        mlflow.log_metric("out_of_fold_log_loss", loss)
    return loss


def _with(base: Hyperparameters, parameters: dict[str, Any]) -> Hyperparameters:
    rest = {name: value for name, value in parameters.items() if name not in {"width", "layers"}}
    return replace(base, hidden=(parameters["width"],) * parameters["layers"], **rest)


def _storage(url: str) -> optuna.storages.RDBStorage:
    try:
        address = make_url(url)
    except SQLAlchemyError as error:
        raise BadInputError(f"--study-storage: not a valid SQLAlchemy URL: {error}") from error
    if address.get_backend_name() == "postgresql":
        return _postgres_storage(address)
    return optuna.storages.RDBStorage(url)


def _postgres_storage(address: URL) -> optuna.storages.RDBStorage:
    with create_engine(address, poolclass=NullPool).connect() as connection:
        # Workers start at the same time but must not create schema and tables concurrently. The lock is released when
        # the connection closes.
        connection.execute(text("SELECT pg_advisory_lock(hashtext('optuna'))"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
        connection.commit()
        return optuna.storages.RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs={"pool_pre_ping": True, "connect_args": {"options": f"-csearch_path={_SCHEMA}"}},
        )
