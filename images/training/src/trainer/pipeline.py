"""From data to a promoted version, readable from top to bottom."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from sklearn.metrics import log_loss

from trainer.data.dataset import Dataset, encode, held_out
from trainer.data.declaration import FeatureDeclaration, load_declaration
from trainer.data.reading import RawTable, read_table
from trainer.data.validation import InvalidDataError, Problem, validate
from trainer.errors import GateRefusedError, TerminatedError, TrackingError
from trainer.evaluation.comparison import compare_auc
from trainer.evaluation.evaluate import Evaluation, evaluate
from trainer.evaluation.gates import Gate, champion_gate, contract_gate
from trainer.evaluation.model_card import write_card
from trainer.evaluation.plots import save_plots
from trainer.export.served.credit_risk_model import CreditRiskModel
from trainer.learning.calibration import calibrate
from trainer.learning.fitting import EpochReport, Fitted, fit
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.search import search
from trainer.progress import Progress
from trainer.settings import Settings
from trainer.tracking import runs as tracking
from trainer.tracking.promotion import PromotionMode, promote_if_still_better
from trainer.tracking.registry import Registry, wait_for_server

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a training came to."""

    run_id: str
    model_name: str
    version: str | None
    promoted: bool
    replaced: str | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Job:
    """Checked data, split, with what identifies the training."""

    declaration: FeatureDeclaration
    full_declaration: FeatureDeclaration
    table: RawTable
    training: Dataset
    test: Dataset
    hyperparameters: Hyperparameters
    fingerprint: str
    study: str

    @property
    def fold_target(self) -> Callable[[Fitted], np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """Targets in the order of a fit's out-of-fold logits."""
        return lambda fitted: self.training.target[fitted.out_of_fold_rows].astype(np.float64)


def run(settings: Settings) -> Result:
    """Train one model and promote it if it passes its gates.

    Raises:
        BadInputError: Data or arguments cannot be used; nothing was logged.
        GateRefusedError: A gate refused the model; the run holds the reason.
        TrackingError: MLflow does not answer.
        TerminatedError: The process was asked to end; the same call goes on from the last checkpoint.
    """
    torch.use_deterministic_algorithms(mode=True)
    # Every tensor would be filled before it is written to, against reads of memory that nothing here makes.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made while importing
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    # A Job tries again whatever its exit code on clusters older than 1.26.
    refusal = settings.work_dir / f"refused-{settings.job}.txt"
    if settings.job and refusal.exists():
        raise GateRefusedError(f"an earlier attempt of this Job: {refusal.read_text(encoding='utf-8')}")
    job = _prepare(settings)
    wait_for_server(settings.tracking_uri, timeout_seconds=settings.wait_seconds)
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_experiment(settings.model_name)
    if settings.trials and settings.worker:
        _searched(settings, job, parent_run=None)
        logger.info("worker %d is done: worker 0 trains the final model", settings.worker)
        return Result("", settings.model_name, None, promoted=False, replaced=None, metrics={})
    note = settings.work_dir / f"run-{job.fingerprint}.txt"
    with mlflow.start_run(run_id=tracking.unfinished_run(note)) as active:
        note.write_text(active.info.run_id, encoding="utf-8")
        try:
            result = _run_logged(settings, job, active.info.run_id)
        except TerminatedError:
            mlflow.end_run("KILLED")
            raise
        except GateRefusedError as error:
            mlflow.set_tag("refused", str(error))
            if settings.job:
                refusal.write_text(str(error), encoding="utf-8")
            _forget(settings.work_dir, job.fingerprint)
            raise
    _forget(settings.work_dir, job.fingerprint)
    return result


def _prepare(settings: Settings) -> _Job:
    full = load_declaration(settings.features)
    declaration = full.without_protected() if settings.exclude_protected else full
    with tempfile.TemporaryDirectory() as scratch:
        table = read_table(
            settings.data,
            full,
            scratch=Path(scratch),
            synthetic_rows=settings.synthetic_rows,
            seed=settings.seed,
        )
    frame = validate(table, full, minimum_rows=settings.minimum_rows)
    kept_apart = held_out(frame, full.names, share=settings.test_share, seed=settings.split_seed)
    data = encode(frame, declaration)
    training, test = data.take(np.flatnonzero(~kept_apart)), data.take(np.flatnonzero(kept_apart))
    for name, part in (("training", training), ("test", test)):
        if len(np.unique(part.target)) < 2:
            problem = Problem(full.target.column, f"the {name} rows hold one class only, more rows are needed")
            raise InvalidDataError(table.source, len(frame), (problem,))
    hyperparameters = settings.hyperparameters.for_rows(len(training))
    logger.info(
        "%s: %d training and %d test rows, %.1f %% defaulted",
        table.source,
        len(training),
        len(test),
        100 * float(data.target.mean()),
    )
    return _Job(
        declaration=declaration,
        full_declaration=full,
        table=table,
        training=training,
        test=test,
        hyperparameters=hyperparameters,
        fingerprint=_fingerprint(settings, table, declaration, hyperparameters, trials=settings.trials),
        # Without the number of trials: asking for more of them goes on with the same study.
        study=f"{settings.model_name}-{_fingerprint(settings, table, declaration, hyperparameters, trials=0)}",
    )


def _fingerprint(
    settings: Settings,
    table: RawTable,
    declaration: FeatureDeclaration,
    hyperparameters: Hyperparameters,
    *,
    trials: int,
) -> str:
    """What makes two starts the same training: then the second goes on where the first ended."""
    parts = {
        "data": table.sha256,
        "declaration": declaration.model_dump(mode="json"),
        "hyperparameters": asdict(hyperparameters),
        "model": settings.model_name,
        "seeds": [settings.seed, settings.split_seed],
        "test_share": settings.test_share,
        "trials": trials,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _run_logged(settings: Settings, job: _Job, run_id: str) -> Result:
    tracking.log_data(job.table.frame, source=job.table.source, sha256=job.table.sha256)
    mlflow.set_tag("git.revision", settings.git_revision)
    hyperparameters = job.hyperparameters
    if settings.trials:
        hyperparameters = _searched(settings, job, parent_run=run_id)
    mlflow.log_params(
        {
            **asdict(hyperparameters),
            **asdict(settings.limits),
            "data": settings.data,
            "rows": len(job.training) + len(job.test),
            "seed": settings.seed,
            "split_seed": settings.split_seed,
            "exclude_protected": settings.exclude_protected,
            "features": ",".join(job.declaration.names),
        }
    )
    fitted = _fit(settings, job, hyperparameters)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model").mkdir()
        evaluation = evaluate(
            fitted,
            training=job.training,
            test=job.test,
            declaration=job.declaration,
            full_declaration=job.full_declaration,
            limits=settings.limits,
            model_name=settings.model_name,
            data_sha256=job.table.sha256,
            folder=folder / "model",
        )
        return _judge_and_register(settings, job, fitted, evaluation, run_id)


def _fit(settings: Settings, job: _Job, hyperparameters: Hyperparameters) -> Fitted:
    with Progress() as progress:

        def on_epoch(report: EpochReport) -> None:
            progress.show(report)
            tracking.log_epoch(report)

        return fit(
            job.training,
            categories=tuple(len(feature.categories) for feature in job.declaration.categorical),
            ordered=tuple(feature.ordered for feature in job.declaration.categorical),
            hyperparameters=hyperparameters,
            seed=settings.seed,
            on_epoch=on_epoch,
            checkpoint=settings.work_dir / f"checkpoint-{job.fingerprint}.pt",
        )


def _searched(settings: Settings, job: _Job, *, parent_run: str | None) -> Hyperparameters:
    def objective(hyperparameters: Hyperparameters, on_epoch: Callable[[EpochReport], None]) -> float:
        fitted = fit(
            job.training,
            categories=tuple(len(feature.categories) for feature in job.declaration.categorical),
            ordered=tuple(feature.ordered for feature in job.declaration.categorical),
            hyperparameters=hyperparameters,
            seed=settings.seed,
            on_epoch=on_epoch,
        )
        target = job.fold_target(fitted)
        return float(log_loss(target, calibrate(fitted.out_of_fold_logit, target).apply(fitted.out_of_fold_logit)))

    return search(
        objective,
        job.hyperparameters,
        trials=settings.trials,
        study_name=job.study,
        storage_url=settings.study_storage or f"sqlite:///{settings.work_dir.resolve()}/study.db",
        seed=settings.seed,
        worker=settings.worker,
        parent_run=parent_run,
        wait_seconds=settings.wait_seconds,
    )


def _judge_and_register(settings: Settings, job: _Job, fitted: Fitted, evaluation: Evaluation, run_id: str) -> Result:
    registry = Registry(MlflowClient(), settings.model_name)
    champion = registry.production_version()

    def compare(version: str | None) -> tuple[Gate, ...]:
        return _against_production(registry, version, settings, job, evaluation)

    gates = (*evaluation.gates, *compare(champion))
    for gate in gates:
        logger.log(logging.INFO if gate.passed else logging.ERROR, "gate %s", gate)
    card = write_card(
        evaluation,
        gates=gates,
        declaration=job.declaration,
        full_declaration=job.full_declaration,
        source=job.table.source,
        rows=(len(job.training), len(job.test)),
        git_revision=settings.git_revision,
    )
    plots = evaluation.folder.parent / "plots"
    plots.mkdir()
    save_plots(job.test.target.astype(np.float64), evaluation.probability, fitted.history, plots)
    tracking.log_evaluation(evaluation, gates, card, plots)
    version = registry.version_of_run(run_id) or registry.register(
        model_uri=tracking.log_model(evaluation),
        run_id=run_id,
        tags=tracking.version_tags(evaluation, gates, git_revision=settings.git_revision),
        description=card,
    )
    logger.info("registered version %s of %s", version, settings.model_name)
    if failed := [gate for gate in gates if not gate.passed]:
        raise GateRefusedError(f"version {version} is not promoted: " + "; ".join(str(gate) for gate in failed))
    replaced = _promote(settings, registry, version, champion, compare)
    promoted = settings.promote is PromotionMode.AUTO
    return Result(run_id, settings.model_name, version, promoted, replaced, asdict(evaluation.metrics))


def _promote(
    settings: Settings,
    registry: Registry,
    version: str,
    champion: str | None,
    compare: Callable[[str | None], tuple[Gate, ...]],
) -> str | None:
    if settings.promote is PromotionMode.MANUAL:
        registry.set_candidate(version)
        logger.info("version %s waits for a person: alias candidate", version)
    if settings.promote is not PromotionMode.AUTO:
        return None

    def compare_again(present: str) -> tuple[Gate, ...]:
        gates = compare(present)
        for key, value in tracking.gate_tags(gates).items():
            registry.set_tag(version, key, value)
        return gates

    replaced = promote_if_still_better(registry, version, compared_with=champion, compare=compare_again)
    logger.info("version %s is Production, instead of %s", version, replaced or "none")
    return replaced


def _against_production(
    registry: Registry, version: str | None, settings: Settings, job: _Job, evaluation: Evaluation
) -> tuple[Gate, ...]:
    """The gates that depend on what is Production; a Production model that cannot be measured passes none."""
    if version is None:
        none = "no Production model yet"
        return (
            contract_gate(None, evaluation.contract, settings.limits),
            Gate("not_worse_than_production", True, 0.0, -settings.limits.margin, none),
        )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            champion = registry.fetch(version, Path(scratch))
            before = CreditRiskModel(champion.folder).predict(job.test.frame).astype(np.float64)
        except (TrackingError, ValueError) as error:
            return (champion_gate(None, settings.limits, reason=f"Production version {version}: {error}"),)
    comparison = compare_auc(job.test.target.astype(np.float64), before, evaluation.probability, seed=settings.seed)
    return (
        contract_gate(champion.contract, evaluation.contract, settings.limits),
        champion_gate(comparison, settings.limits, reason=f"Production version {version}"),
    )


def _forget(work_dir: Path, fingerprint: str) -> None:
    for name in (f"run-{fingerprint}.txt", f"checkpoint-{fingerprint}.pt"):
        (work_dir / name).unlink(missing_ok=True)
