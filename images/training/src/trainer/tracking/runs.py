"""A training run in MLflow: what is logged, and how a killed run is resumed."""

import hashlib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.types import ColSpec, Schema

from trainer.evaluation.default_rates import Rate
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.fairness import GroupResult
from trainer.evaluation.gates import Gate
from trainer.evaluation.master_scale import GradeResult
from trainer.evaluation.swap_set import SwapSet
from trainer.export import flavor
from trainer.export.contract import CONTRACT_FILE, MODEL_FILE, sha256_of
from trainer.learning.state import EpochReport
from trainer.tracking.texts import LONGEST_TAG, shortened

logger = logging.getLogger(__name__)

_NAME_LENGTH = 100
_REASON_LENGTH = 1000
_UNFINISHED = {"RUNNING", "KILLED"}


def unfinished_run(note: Path) -> str | None:
    """Return the run that an earlier, killed process noted, or None if it cannot be resumed."""
    if not note.exists():
        return None
    run_id = note.read_text(encoding="utf-8").strip()
    try:
        status = mlflow.get_run(run_id).info.status
    except MlflowException as error:
        logger.info("run %s of an earlier attempt no longer exists: %s", run_id, error.message)
        return None
    return run_id if status in _UNFINISHED else None


def log_epoch(report: EpochReport) -> None:
    """Log one epoch's losses and learning rate."""
    mlflow.log_metrics(
        {
            "train_loss": report.train_loss,
            "validation_loss": report.validation_loss,
            "learning_rate": report.learning_rate,
            "epoch_seconds": report.seconds,
        },
        step=report.epoch,
    )


def log_data(frame: pd.DataFrame, *, source: str, sha256: str, url: str | None = None) -> None:
    """Log the data set and its digest as the run's input.

    Args:
        frame: The data.
        source: Where it came from.
        sha256: Its digest.
        url: The request to the decisions service that it is the answer to, if it is made of decisions.
    """
    mlflow.set_tag("data.sha256", sha256)
    dataset = MetaDataset(  # type: ignore[abstract]  # as documented by MLflow; only its annotations make it abstract
        _dataset_source(source, url),
        name="decisions" if url else "loans",
        # MLflow limits the digest of a data set to 36 characters.
        digest=sha256[:32],
        schema=_schema(frame),
    )
    mlflow.log_input(dataset, context="training")


def _dataset_source(source: str, url: str | None) -> DatasetSource:
    if url:
        return HTTPDatasetSource(url)  # type: ignore[no-untyped-call]  # MLflow does not annotate it
    return CodeDatasetSource({}) if source.startswith("synthetic") else resolve_dataset_source(source)


def _schema(frame: pd.DataFrame) -> Schema:
    """Describe the columns as validation reads them; inferring it would read every value, and warn about integers."""
    return Schema(
        [
            ColSpec("double" if pd.api.types.is_numeric_dtype(frame[name]) else "string", str(name))
            for name in frame.columns
        ]
    )


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Return a name that MLflow accepts for each name, whatever it is; no two are the same.

    MLflow takes letters, digits and _-./ and spaces; a path such as `a//b` or `../b` is refused.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        # Not letters of other scripts: some stores of MLflow refuse them.
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:_NAME_LENGTH]
        if safe in found.values() or not safe.strip("_"):
            safe = f"{safe}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        found[name] = safe
    return found


def log_evaluation(
    evaluation: Evaluation, gates: Sequence[Gate], swap_set: SwapSet | None, card: str, plots: Path
) -> None:
    """Log metrics, decisions, grades, group results, feature importance, gates, plots and the model card."""
    features = metric_names(evaluation.importance)
    mlflow.log_metrics(
        {
            **{f"test_{name}": value for name, value in asdict(evaluation.metrics).items()},
            **{f"importance.{features[name]}": value for name, value in evaluation.importance.items()},
            **{f"gate.{gate.name}": gate.value for gate in gates if gate.value is not None},
            **_decision_metrics(evaluation, swap_set),
            **_grade_metrics(evaluation.grades),
            **_group_metrics(evaluation.groups),
        }
    )
    mlflow.log_table({key: list(column) for key, column in _columns(evaluation.groups).items()}, "groups.json")
    mlflow.log_dict({gate.name: asdict(gate) for gate in gates}, "gates.json")
    mlflow.log_text(card, "model_card.md")
    mlflow.set_tag("mlflow.note.content", shortened(card, LONGEST_TAG))
    mlflow.log_artifacts(str(plots), "plots")


def _decision_metrics(evaluation: Evaluation, swap_set: SwapSet | None) -> dict[str, float]:
    decisions = evaluation.decisions
    return {
        "decision_threshold": evaluation.contract.decision_threshold,
        "test_approval_rate": decisions.approval_rate,
        **_rate_metrics("test_approved", decisions.approved),
        **_rate_metrics("test_declined", decisions.declined),
        **{
            name: value
            for cell, rate in (swap_set.cells if swap_set else {}).items()
            for name, value in _rate_metrics(f"swap.{cell}", rate).items()
        },
    }


def _grade_metrics(grades: Sequence[GradeResult]) -> dict[str, float]:
    names = metric_names(grade.name for grade in grades)
    found: dict[str, float] = {}
    for grade in grades:
        prefix = f"grade.{names[grade.name]}"
        found |= {f"{prefix}.expected_default_rate": grade.expected, **_rate_metrics(prefix, grade.observed)}
    return found


def _rate_metrics(prefix: str, rate: Rate) -> dict[str, float]:
    """Return a rate's rows, and the rate itself if there are any."""
    observed = {} if rate.value is None else {f"{prefix}.default_rate": rate.value}
    return {f"{prefix}.rows": float(rate.rows), **observed}


def _group_metrics(groups: tuple[GroupResult, ...]) -> dict[str, float]:
    found = {}
    attributes = metric_names(group.attribute for group in groups)
    values_of = {name: metric_names(g.group for g in groups if g.attribute == name) for name in attributes}
    for group in groups:
        prefix = f"group.{attributes[group.attribute]}.{values_of[group.attribute][group.group]}"
        values = asdict(group)
        for name in ("rows", "roc_auc", "approval_rate", "adverse_impact_ratio", "highest_ratio"):
            if values[name] is not None:
                found[f"{prefix}.{name}"] = float(values[name])
    return found


def _columns(groups: tuple[GroupResult, ...]) -> dict[str, list[object]]:
    rows = [asdict(group) for group in groups]
    return {name: [row[name] for row in rows] for name in GroupResult.__dataclass_fields__}


def log_model(evaluation: Evaluation) -> str:
    """Upload the model's folder and return the URI to register it by."""
    logged = Model.log(artifact_path=None, name="model", flavor=flavor, flavor_name="onnx", folder=evaluation.folder)
    return str(logged.model_uri)


def version_tags(evaluation: Evaluation, gates: Sequence[Gate], *, git_revision: str) -> dict[str, str]:
    """Return the tags that the model contract requires, and one per gate."""
    folder = evaluation.folder
    return {
        **{f"sha256.{name}": sha256_of(folder / name) for name in (MODEL_FILE, CONTRACT_FILE)},
        "data.sha256": evaluation.contract.training_data_sha256,
        "git.revision": git_revision,
        **{f"metric.{name}": f"{value:.6f}" for name, value in asdict(evaluation.metrics).items()},
        **gate_tags(gates),
    }


def reason_tags(reason: str) -> dict[str, str]:
    """Return the tag of a run and a version that says why they were trained; none if nobody said."""
    return {"training.reason": reason[:_REASON_LENGTH]} if reason else {}


def gate_tags(gates: Sequence[Gate]) -> dict[str, str]:
    """Return one tag per gate with its measured value, and the overall verdict."""
    return {
        **{
            f"gate.{gate.name}": f"{'passed' if gate.passed else 'refused'} "
            f"{'not measured' if gate.value is None else _short(gate.value)} limit {_short(gate.limit)}"
            for gate in gates
        },
        "gate.verdict": "passed" if all(gate.passed for gate in gates) else "refused",
    }


def _short(number: float) -> str:
    return str(int(number)) if math.isfinite(number) and number == int(number) else f"{number:.6g}"
