"""Hyper-parameter search: an Optuna study that parallel workers share, judged on out-of-fold rows only."""

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

# The database is MLflow's, and both tools keep their revision in a table named alembic_version.
_SCHEMA = "optuna"
_PARENT_RUN = "mlflow_parent_run"
_WAIT_STEP_SECONDS = 1.0

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
    """Try hyper-parameters until the study holds `trials` complete trials, by all workers together.

    Args:
        objective: Trains with hyper-parameters, reports each epoch, and gives the loss to minimise.
        base: What is not searched.
        trials: Complete trials in the study; those of an earlier, killed attempt count.
        study_name: Workers of the same name share a study.
        storage_url: SQLAlchemy address.
        seed: Of the search; each worker draws from it in its own way, so that they do not try the same.
        worker: Number of this worker; its trials' runs have it as a tag.
        parent_run: The MLflow run under which all trials are nested; None takes the one that another worker named.
        wait_seconds: How long to wait for that other worker.

    Returns:
        The best hyper-parameters found.

    Raises:
        TrackingError: The study's database does not answer, or no worker named a parent run.
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
            parent_run = _parent_of_others(study, wait_seconds)
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


def _parent_of_others(study: optuna.Study, wait_seconds: float) -> str:
    deadline = time.monotonic() + wait_seconds
    while (found := study.user_attrs.get(_PARENT_RUN)) is None:
        if time.monotonic() >= deadline:
            raise TrackingError(f"worker 0 of the study {study.study_name} did not start within {wait_seconds:.0f} s")
        time.sleep(_WAIT_STEP_SECONDS)
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
        raise BadInputError(f"study storage: not a database address: {error}") from error
    if address.get_backend_name() == "postgresql":
        return _postgres_storage(address)
    return optuna.storages.RDBStorage(url)


def _postgres_storage(address: URL) -> optuna.storages.RDBStorage:
    with create_engine(address, poolclass=NullPool).connect() as connection:
        # Workers start at once, and two cannot make schema and tables at a time. The lock goes with the connection.
        connection.execute(text("SELECT pg_advisory_lock(hashtext('optuna'))"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}"))
        connection.commit()
        return optuna.storages.RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs={"pool_pre_ping": True, "connect_args": {"options": f"-csearch_path={_SCHEMA}"}},
        )
