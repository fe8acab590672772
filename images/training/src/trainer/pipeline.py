"""A training run from data to the Production pointer, readable from top to bottom."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import mlflow
import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient
from sklearn.metrics import log_loss

from trainer.data.dataset import has_both_outcomes
from trainer.data.decisions import is_decisions
from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration
from trainer.errors import GateRefusedError, PeerLostError, TerminatedError, TrackingError
from trainer.evaluation.comparison import by_parts, compare_auc
from trainer.evaluation.evaluate import Evaluation, evaluate
from trainer.evaluation.gates import Gate, champion_gate, contract_gate
from trainer.evaluation.model_card import write_card
from trainer.evaluation.plots import save_plots
from trainer.evaluation.swap_set import SwapSet, compare_decisions
from trainer.export.declared import declaration_of
from trainer.export.local_copy import write_local_copy
from trainer.export.served.credit_risk_model import CreditRiskModel
from trainer.following import checkpoint_file, create_work_dir
from trainer.learning.calibration import calibrate
from trainer.learning.fitting import Fitted, be_deterministic, fit
from trainer.learning.group import ALONE, Group
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.search import search
from trainer.learning.state import EpochReport
from trainer.preparation import TrainingInputs, prepare
from trainer.progress import Progress
from trainer.settings import Settings
from trainer.tracing import describe, phase
from trainer.tracking import runs as tracking
from trainer.tracking.production_pointer import PointerMode, move_pointer_if_still_better
from trainer.tracking.registry import Registry, wait_for_server

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Result of a training run.

    Attributes:
        run_id: The MLflow run; empty for a search worker that trains no final model.
        model_name: Name of the registered model.
        version: The registered version, if any.
        moved_pointer: Whether this run moved the Production pointer to the version.
        replaced: The Production version before that, if any.
        metrics: Metrics on the test rows.
    """

    run_id: str
    model_name: str
    version: str | None
    moved_pointer: bool
    replaced: str | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class ProductionComparison:
    """A model beside the Production version.

    Attributes:
        gates: The gates that depend on the Production version; if it cannot be measured, they do not pass.
        swap_set: On whom the two decide differently; None without a Production version that can be measured.
    """

    gates: tuple[Gate, ...]
    swap_set: SwapSet | None = None


def run(settings: Settings, group: Group = ALONE) -> Result:
    """Train and register one model; move the Production pointer to it if it passes its gates.

    Args:
        settings: Those of the run.
        group: The processes that fit the network; the others are in `follow`.

    Raises:
        BadInputError: Data or arguments are invalid; nothing was logged.
        DataUnavailableError: The decisions service is unavailable; nothing was logged.
        GateRefusedError: A gate refused the model; the run's tag `refused` has the reason.
        TrackingError: MLflow is unavailable.
        TerminatedError: The process received SIGTERM; the same call resumes from the last checkpoint.
    """
    be_deterministic()
    create_work_dir(settings)
    # On clusters older than 1.26, a Job is retried regardless of its exit code.
    refusal = settings.work_dir / f"refused-{settings.job}.txt"
    with group.leading():
        if settings.job and refusal.exists():
            raise GateRefusedError(f"refused in an earlier attempt of this Job: {refusal.read_text(encoding='utf-8')}")
        served = served_declaration(settings)
    group.from_rank(0, served.model_dump_json().encode() if served else b"")
    with phase("prepare"), group.together():
        inputs = prepare(settings, served)
    group.agree(inputs.fingerprint)
    wait_for_server(settings.tracking_uri, timeout_seconds=settings.wait_seconds)
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_experiment(settings.model_name)
    if settings.trials and settings.worker:
        _search_hyperparameters(settings, inputs, parent_run=None)
        logger.info("worker %d is done; worker 0 trains the final model", settings.worker)
        return Result("", settings.model_name, None, moved_pointer=False, replaced=None, metrics={})
    note = settings.work_dir / f"run-{inputs.fingerprint}.txt"
    with mlflow.start_run(run_id=tracking.unfinished_run(note)) as active:
        note.write_text(active.info.run_id, encoding="utf-8")
        describe({"mlflow.run_id": active.info.run_id})
        try:
            result = _run_tracked(settings, inputs, active.info.run_id, group)
        except (TerminatedError, PeerLostError):
            # Resumed by the next attempt.
            mlflow.end_run("KILLED")
            raise
        except GateRefusedError as error:
            mlflow.set_tag("refused", str(error))
            if settings.job:
                refusal.write_text(str(error), encoding="utf-8")
            _discard_progress(note, checkpoint_file(settings, inputs))
            raise
    _discard_progress(note, checkpoint_file(settings, inputs))
    return result


def served_declaration(settings: Settings) -> FeatureDeclaration | None:
    """Return the declaration of the Production version, if data from decisions comes without another one.

    Raises:
        TrackingError: MLflow is unavailable, or the version's files are not those of its tags.
    """
    if not is_decisions(settings.data) or settings.features != BUILT_IN_DECLARATION:
        return None
    wait_for_server(settings.tracking_uri, timeout_seconds=settings.wait_seconds)
    mlflow.set_tracking_uri(settings.tracking_uri)
    registry = Registry(MlflowClient(), settings.model_name)
    version = registry.production_version()
    if version is None:
        return None
    logger.info("features are those of Production version %s; --features replaces them", version)
    with tempfile.TemporaryDirectory() as folder:
        return declaration_of(registry.fetch(version, Path(folder)).contract)


def _run_tracked(settings: Settings, inputs: TrainingInputs, run_id: str, group: Group) -> Result:
    selection = inputs.selection
    tracking.log_data(
        inputs.table.frame,
        source=inputs.table.source,
        sha256=inputs.table.sha256,
        url=selection.url if selection else None,
    )
    if selection:
        mlflow.set_tags(selection.facts)
    # The number of processes is no parameter, because a run that is resumed may have another.
    mlflow.set_tags({
        "processes": group.size, "git.revision": settings.git_revision, **tracking.reason_tags(settings.reason),
    })  # fmt: skip
    hyperparameters = inputs.hyperparameters
    if settings.trials:
        with phase("search"):
            hyperparameters = _search_hyperparameters(settings, inputs, parent_run=run_id)
    mlflow.log_params(
        {
            **asdict(hyperparameters),
            **asdict(settings.limits),
            "data": settings.data,
            "rows": len(inputs.training) + len(inputs.test),
            "seed": settings.seed,
            "split_seed": settings.split_seed,
            "pd_floor": settings.pd_floor,
            "threshold": str(settings.threshold),
            "split": settings.split,
            **inputs.facts,
            **({} if settings.default_rate is None else {"default_rate": settings.default_rate}),
            "exclude_protected": settings.exclude_protected,
            "features": ",".join(inputs.declaration.names),
        }
    )
    with phase("fit"):
        fitted = _fit(settings, inputs, hyperparameters, group)
    with group.leading(), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model").mkdir()
        with phase("evaluate"):
            evaluation = evaluate(
                fitted,
                training=inputs.training,
                test=inputs.test,
                declaration=inputs.declaration,
                full_declaration=inputs.full_declaration,
                limits=settings.limits,
                pd_floor=settings.pd_floor,
                threshold=settings.threshold,
                default_rate=settings.default_rate,
                model_name=settings.model_name,
                data_sha256=inputs.table.sha256,
                folder=folder / "model",
            )
        return _judge_and_register(settings, inputs, fitted, evaluation, run_id)


def _fit(settings: Settings, inputs: TrainingInputs, hyperparameters: Hyperparameters, group: Group) -> Fitted:
    with Progress() as progress:

        def on_epoch(report: EpochReport) -> None:
            progress.show(report)
            tracking.log_epoch(report)

        return fit(
            inputs.training,
            inputs=inputs.declaration.inputs,
            hyperparameters=hyperparameters,
            seed=settings.seed,
            on_epoch=on_epoch,
            checkpoint=checkpoint_file(settings, inputs),
            group=group,
        )


def _search_hyperparameters(settings: Settings, inputs: TrainingInputs, *, parent_run: str | None) -> Hyperparameters:
    def objective(hyperparameters: Hyperparameters, on_epoch: Callable[[EpochReport], None]) -> float:
        fitted = fit(
            inputs.training,
            inputs=inputs.declaration.inputs,
            hyperparameters=hyperparameters,
            seed=settings.seed,
            on_epoch=on_epoch,
        )
        target, weight = inputs.training.outcomes(fitted.out_of_fold_rows)
        calibration = calibrate(fitted.out_of_fold_logit, target, weight)
        return float(log_loss(target, calibration.apply(fitted.out_of_fold_logit), sample_weight=weight))

    return search(
        objective,
        inputs.hyperparameters,
        trials=settings.trials,
        study_name=inputs.study,
        storage_url=settings.study_storage or f"sqlite:///{settings.work_dir.resolve()}/study.db",
        seed=settings.seed,
        worker=settings.worker,
        workers=settings.workers,
        parent_run=parent_run,
        wait_seconds=settings.wait_seconds,
    )


def _judge_and_register(
    settings: Settings, inputs: TrainingInputs, fitted: Fitted, evaluation: Evaluation, run_id: str
) -> Result:
    registry = Registry(MlflowClient(), settings.model_name)
    champion = registry.production_version()

    def compare(version: str | None) -> ProductionComparison:
        with phase("compare with Production"):
            return _against_production(registry, version, settings, inputs, evaluation)

    compared = compare(champion)
    gates = (*evaluation.gates, *compared.gates)
    for gate in gates:
        logger.log(logging.INFO if gate.passed else logging.ERROR, "gate %s", gate)
    card = write_card(
        evaluation,
        gates=gates,
        swap_set=compared.swap_set,
        declaration=inputs.declaration,
        full_declaration=inputs.full_declaration,
        source=inputs.table.source,
        rows=(len(inputs.training), len(inputs.test)),
        split=inputs.split_in_words,
        weights=inputs.weights_in_words,
        selection=inputs.selection,
        git_revision=settings.git_revision,
    )
    plots = evaluation.folder.parent / "plots"
    plots.mkdir()
    outcome = inputs.test.target.astype(np.float64)
    save_plots(outcome, evaluation.before_shift, fitted.history, plots, inputs.test.weight)
    with phase("register"):
        tracking.log_evaluation(evaluation, gates, compared.swap_set, card, plots)
        version = registry.version_of_run(run_id) or registry.register(
            model_uri=tracking.log_model(evaluation),
            run_id=run_id,
            tags={
                **tracking.version_tags(evaluation, gates, git_revision=settings.git_revision),
                **tracking.reason_tags(settings.reason),
            },
            description=card,
        )
    describe({"creditrisk.model.version": version})
    logger.info("registered version %s of %s", version, settings.model_name)
    if failed := [gate for gate in gates if not gate.passed]:
        raise GateRefusedError(f"version {version} was refused: " + "; ".join(str(gate) for gate in failed))
    with phase("move pointer"):
        replaced = _move_pointer(settings, registry, version, champion, lambda current: compare(current).gates)
    if settings.output:
        metrics = asdict(evaluation.metrics)
        write_local_copy(
            settings.output,
            evaluation.folder,
            name=settings.model_name,
            version=version,
            run_id=run_id,
            metrics=metrics,
        )
        logger.info("wrote version %s to %s", version, settings.output)
    moved = settings.production_pointer is PointerMode.AUTO
    return Result(run_id, settings.model_name, version, moved, replaced, asdict(evaluation.metrics))


def _move_pointer(
    settings: Settings,
    registry: Registry,
    version: str,
    champion: str | None,
    compare: Callable[[str], tuple[Gate, ...]],
) -> str | None:
    if settings.production_pointer is PointerMode.MANUAL:
        registry.set_candidate(version)
        logger.info("version %s awaits a manual decision: it has the alias candidate", version)
    if settings.production_pointer is not PointerMode.AUTO:
        return None

    def compare_again(current: str) -> tuple[Gate, ...]:
        gates = compare(current)
        for key, value in tracking.gate_tags(gates).items():
            registry.set_tag(version, key, value)
        return gates

    replaced = move_pointer_if_still_better(registry, version, compared_with=champion, compare=compare_again)
    logger.info("moved the Production pointer from version %s to version %s", replaced or "none", version)
    return replaced


def _against_production(
    registry: Registry, version: str | None, settings: Settings, inputs: TrainingInputs, evaluation: Evaluation
) -> ProductionComparison:
    if version is None:
        return ProductionComparison(
            (
                contract_gate(None, evaluation.contract, settings.limits),
                Gate("not_worse_than_production", True, 0.0, -settings.limits.margin, "no Production model yet"),
            )
        )
    with tempfile.TemporaryDirectory() as scratch:
        try:
            champion = registry.fetch(version, Path(scratch))
            model = CreditRiskModel(champion.folder)
            # It may refuse what the challenger accepts, such as missing values.
            rows = _comparable(model, inputs)
            champion_pd = by_parts(model.predict, inputs.test.frame[rows]).astype(np.float64)
        except (TrackingError, ValueError) as error:
            gate = champion_gate(None, settings.limits, reason=f"Production version {version}: {error}")
            return ProductionComparison((gate,))
    (target, weight), challenger_pd = inputs.test.outcomes(np.flatnonzero(rows)), evaluation.probability[rows]
    comparison = compare_auc(target, champion_pd, challenger_pd, weight, seed=settings.seed)
    scored = "" if rows.all() else f" on the {rows.sum()} of {len(rows)} test rows that it can score"
    return ProductionComparison(
        gates=(
            contract_gate(champion.contract, evaluation.contract, settings.limits),
            champion_gate(comparison, settings.limits, reason=f"Production version {version}{scored}"),
        ),
        swap_set=compare_decisions(
            target,
            champion_pd,
            challenger_pd,
            weight,
            version=version,
            champion_threshold=champion.contract.decision_threshold,
            challenger_threshold=evaluation.contract.decision_threshold,
        ),
    )


def _comparable(champion: CreditRiskModel, inputs: TrainingInputs) -> npt.NDArray[np.bool_]:
    """Return the test rows on which the champion can be compared: those that it accepts, or all to learn the reason."""
    rows = by_parts(champion.accepts, inputs.test.frame)
    comparable = has_both_outcomes(*inputs.test.outcomes(np.flatnonzero(rows)))
    return rows if comparable else np.ones(len(rows), dtype=bool)


def _discard_progress(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)
