"""Hyperparameter search: an Optuna study shared by parallel workers, scored on out-of-fold rows only."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import mlflow
import optuna
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from trainer.errors import BadInputError, TrackingError
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.state import EpochReport

logger = logging.getLogger(__name__)

# The study is in MLflow's database, and both tools keep their schema revision in a table named alembic_version.
_SCHEMA = "optuna"
_PARENT_RUN = "mlflow_parent_run"
_WORKER = "worker_"
_POLL_SECONDS = 1.0
# Pods of one Job start at about the same time, unless the cluster has no room for all of them.
_OTHERS_START_SECONDS = 120.0
_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)

T = TypeVar("T")
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
    workers: int,
    parent_run: str | None,
    wait_seconds: float,
) -> Hyperparameters:
    """Try hyperparameters until the study has `trials` complete trials from all workers together.

    Workers begin together, so that a fast one does not try all of them alone: each waits for the others, but at most
    two minutes, and tries at least one unless the study was complete before. While the study's database is unavailable
    or accepts no writes, a worker waits for it; the trial that this interrupted does not count.

    Args:
        objective: Trains with given hyperparameters, reports each epoch, and returns the loss to minimize.
        base: The hyperparameters that are not searched.
        trials: Complete trials in the study, including those of an earlier, killed attempt.
        study_name: Name of the study; workers with the same name share it.
        storage_url: SQLAlchemy URL of the study.
        seed: Seed of the search; each worker derives its own, so that workers do not try the same.
        worker: Index of this worker, a tag of its trials' runs.
        workers: How many workers share the study.
        parent_run: The MLflow run to nest all trials under; None waits for the one that worker 0 publishes.
        wait_seconds: How long to wait for worker 0, and each time for the study's database.

    Returns:
        The best hyperparameters found.

    Raises:
        TrackingError: The study's database is unavailable, or worker 0 did not publish a parent run in time.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def patiently(action: Callable[[], T]) -> T:
        return _patiently(action, wait_seconds)

    study = patiently(partial(_open, storage_url, study_name, seed + worker))
    if parent_run:
        patiently(partial(study.set_user_attr, _PARENT_RUN, parent_run))
    else:
        parent_run = patiently(partial(_published_parent_run, study, wait_seconds))
    attempt = partial(_try, objective=objective, base=base, worker=worker, parent_run=parent_run)
    complete = patiently(partial(_is_complete, study, trials))
    if not complete and workers > 1:
        patiently(partial(_wait_for_others, study, worker, workers))
    while not complete:
        complete = patiently(partial(_run_trial, study, attempt, trials))
    found = patiently(partial(_best, study))
    logger.info("best of %d trials: loss %.5f with %s", found.number_of_trials, found.loss, found.parameters)
    return _with(base, found.parameters)


@dataclass(frozen=True)
class _Best:
    number_of_trials: int
    loss: float
    parameters: dict[str, Any]


def _best(study: optuna.Study) -> _Best:
    return _Best(len(study.trials), study.best_value, study.best_params)


def _open(storage_url: str, study_name: str, seed: int) -> optuna.Study:
    return optuna.create_study(
        storage=_storage(storage_url),
        study_name=study_name,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=5),
        direction="minimize",
        load_if_exists=True,
    )


def _patiently(action: Callable[[], T], wait_seconds: float) -> T:
    """Repeat an action on the study until its database answers.

    Raises:
        TrackingError: It did not, for `wait_seconds` from the first failure on.
    """
    deadline = None
    while True:
        try:
            return action()
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
            deadline = deadline or time.monotonic() + wait_seconds
            if time.monotonic() >= deadline:
                raise TrackingError(f"the study's database failed: {error}") from error
            logger.warning("the study's database failed, trying again: %s", error)
        time.sleep(_POLL_SECONDS)


def _is_complete(study: optuna.Study, trials: int) -> bool:
    return len(study.get_trials(deepcopy=False, states=_COUNTED)) >= trials


def _run_trial(study: optuna.Study, attempt: Callable[[optuna.Trial], float], trials: int) -> bool:
    """Run one trial and return whether the study is complete."""
    # Not by `study.optimize`, which hides the reason for a failure of the database behind one of its own assertions.
    trial = study.ask()
    try:
        study.tell(trial, attempt(trial))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    return _is_complete(study, trials)


def _wait_for_others(study: optuna.Study, worker: int, workers: int) -> None:
    study.set_user_attr(f"{_WORKER}{worker}", True)
    deadline = time.monotonic() + _OTHERS_START_SECONDS
    while (present := sum(name.startswith(_WORKER) for name in study.user_attrs)) < workers:
        if time.monotonic() >= deadline:
            logger.warning("beginning with %d of %d workers", present, workers)
            return
        time.sleep(_POLL_SECONDS)


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
            # Without a pool, whose connections a failover could leave read-only.
            engine_kwargs={"poolclass": NullPool, "connect_args": {"options": f"-csearch_path={_SCHEMA}"}},
        )
