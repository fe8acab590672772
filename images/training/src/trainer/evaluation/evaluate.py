"""Calibrate, export and measure a trained model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from trainer.data.dataset import Dataset, Floats, Integers, protected_groups
from trainer.data.declaration import FeatureDeclaration
from trainer.data.master_scale import DeclaredGrade
from trainer.data.resolution import missing_shares, other_shares
from trainer.evaluation.chance import chance_levels
from trainer.evaluation.fairness import GroupResult, assess_groups
from trainer.evaluation.gates import (
    PARITY_ROWS,
    Gate,
    GateLimits,
    approval_gate,
    edge_cases,
    finite_gate,
    parity_gate,
    quality_gates,
)
from trainer.evaluation.master_scale import (
    PROBABILITY_BANDS,
    GradeResult,
    assess_grades,
    build_grades,
    expected_default_rates,
)
from trainer.evaluation.metrics import Metrics, measure
from trainer.evaluation.serving import serving_gate
from trainer.evaluation.threshold import Decisions, ThresholdChoice, assess_decisions
from trainer.export.contract import (
    CONTRACT_FILE,
    MODEL_FILE,
    Contract,
    Grade,
    ProbabilityLimits,
    feature_contracts,
    reference_applicant,
    score_histogram,
)
from trainer.export.onnx_graph import export_onnx
from trainer.export.reference import write_reference
from trainer.export.served.credit_risk_model import CreditRiskModel
from trainer.learning.fitting import Fitted
from trainer.learning.network import CalibratedNetwork
from trainer.learning.prior_shift import calibrate_model

_EVALUATION_ROWS = 16_384
_IMPORTANCE_ROWS = 20_000
_IMPORTANCE_REPEATS = 3


@dataclass(frozen=True)
class Evaluation:
    """A trained model, exported and measured on the test rows.

    Attributes:
        folder: Holds `model.onnx` and `contract.json`.
        contract: The content of `contract.json`.
        probability: Probability of default per test row, from the exported model, float64 [N].
        before_shift: The same at the training data's own default rate, if the model answers at another one.
        shift: The distance between the two in log-odds.
        metrics: On the test rows, before the shift.
        decisions: How the decision threshold divides the test rows.
        grades: Results per grade of the master scale, before the shift; empty if none is declared.
        bands: The same per band of the probability, whatever is declared.
        groups: Results per protected group.
        missing_share: Share of training rows without a value, per feature.
        other_share: Share of training rows with a category outside the list, per feature that accepts those.
        importance: Permutation importance on the test rows: AUC lost per shuffled feature.
        gates: All gates that do not depend on another model.
    """

    folder: Path
    contract: Contract
    probability: npt.NDArray[np.float64]
    before_shift: npt.NDArray[np.float64]
    shift: float
    metrics: Metrics
    decisions: Decisions
    grades: tuple[GradeResult, ...]
    bands: tuple[GradeResult, ...]
    groups: tuple[GroupResult, ...]
    missing_share: dict[str, float]
    other_share: dict[str, float]
    importance: dict[str, float]
    gates: tuple[Gate, ...]


def evaluate(
    fitted: Fitted,
    *,
    training: Dataset,
    test: Dataset,
    declaration: FeatureDeclaration,
    full_declaration: FeatureDeclaration,
    limits: GateLimits,
    pd_floor: float,
    threshold: ThresholdChoice,
    default_rate: float | None,
    model_name: str,
    data_sha256: str,
    folder: Path,
) -> Evaluation:
    """Calibrate, export and measure.

    Args:
        fitted: The trained network.
        training: The rows it was trained on.
        test: Held-out rows.
        declaration: The features it uses.
        full_declaration: Those, and the protected attributes it may not use.
        limits: Gate limits.
        pd_floor: The lowest probability of default to answer, however low the data would allow.
        threshold: How the decision threshold is chosen.
        default_rate: The mean probability of default to calibrate to; None for the training data's own.
        model_name: Name of the registered model.
        data_sha256: Digest of the training data.
        folder: Folder to write `model.onnx` and `contract.json` to.
    """
    outcome, weight = training.outcomes(fitted.out_of_fold_rows)
    calibrated = calibrate_model(
        fitted.out_of_fold_logit, outcome, weight, pd_floor=pd_floor, default_rate=default_rate
    )
    network = CalibratedNetwork(fitted.network, **asdict(calibrated.calibration), **asdict(calibrated.limits)).eval()
    export_onnx(network, folder / MODEL_FILE)
    reference = reference_applicant(training.frame, declaration)
    out_of_fold = calibrated.apply(fitted.out_of_fold_logit)
    contract = Contract(
        model_name=model_name,
        features=feature_contracts(declaration, training.frame),
        ignored=declaration.ignored,
        reference_applicant=reference,
        score_histogram=score_histogram(np.zeros(0)),
        decision_threshold=threshold.find(outcome, out_of_fold, weight),
        probability_limits=ProbabilityLimits(**asdict(calibrated.limits)),
        decision_rule=threshold.rule,
        grades=build_grades(declaration.grades, out_of_fold, weight),
        default_rate=default_rate,
        training_data_sha256=data_sha256,
    )
    _write(contract, folder)
    served = CreditRiskModel(folder)
    medians = np.array([np.nanmedian(column) for column in training.numeric.T], dtype=np.float32)
    extremes = edge_cases(declaration, medians, training.categorical[0].astype(np.int64))
    probability = predict(served, test).astype(np.float64)
    contract = contract.model_copy(update={"score_histogram": score_histogram(probability, test.weight)})
    _write(contract, folder)
    write_reference(contract, training, folder)
    target = test.target.astype(np.float64)
    before_shift = calibrated.before_shift(probability)
    metrics = measure(target, before_shift, test.weight)
    decisions = assess_decisions(target, probability, test.weight, threshold=contract.decision_threshold)
    groups = assess_groups(
        protected_groups(test.frame, full_declaration), target, probability, threshold=contract.decision_threshold
    )

    def assessed(scale: Sequence[DeclaredGrade | Grade]) -> tuple[GradeResult, ...]:
        expected = expected_default_rates(scale, out_of_fold, calibrated.before_shift(out_of_fold), weight)
        return assess_grades(scale, expected, target, probability, test.weight)

    return Evaluation(
        folder=folder,
        contract=contract,
        probability=probability,
        before_shift=before_shift,
        shift=calibrated.shift,
        metrics=metrics,
        decisions=decisions,
        grades=assessed(contract.grades),
        bands=assessed(PROBABILITY_BANDS),
        groups=groups,
        missing_share=missing_shares(declaration, training.frame),
        other_share=other_shares(declaration, training.frame),
        importance=permutation_importance(served, test, declaration),
        gates=(
            finite_gate(served.run({"numeric": extremes[0], "categorical": extremes[1]})),
            *(
                _judged_before_shift(gate, default_rate)
                for gate in quality_gates(metrics, chance_levels(target, before_shift, test.weight), groups, limits)
            ),
            approval_gate(decisions.approved.rows, len(test)),
            _measure_parity(network, served, test, extremes),
            serving_gate(served, folder, test.frame),
        ),
    )


def _judged_before_shift(gate: Gate, default_rate: float | None) -> Gate:
    """Return a gate that says so if it judged the probabilities before they were shifted to another default rate."""
    if default_rate is None or gate.name != "ece":
        return gate
    return replace(gate, detail=f"{gate.detail}, before the shift to the default rate {default_rate:g}")


def predict(model: CreditRiskModel, data: Dataset) -> npt.NDArray[np.float32]:
    """Return the probability of default per row, float32 [N], computed in batches to save memory."""
    probability = np.empty(len(data), dtype=np.float32)
    for start in range(0, len(data), _EVALUATION_ROWS):
        probability[start : start + _EVALUATION_ROWS] = model.run(
            {
                "numeric": data.numeric[start : start + _EVALUATION_ROWS],
                "categorical": data.categorical[start : start + _EVALUATION_ROWS].astype(np.int64),
            }
        )
    return probability


def permutation_importance(model: CreditRiskModel, data: Dataset, declaration: FeatureDeclaration) -> dict[str, float]:
    """Return the AUC lost when a feature's values are shuffled (Breiman, 2001), averaged over three shuffles."""
    sample = data.take(np.arange(min(len(data), _IMPORTANCE_ROWS)))
    if len(np.unique(sample.target)) < 2:
        return {}
    rng = np.random.default_rng(0)
    baseline = roc_auc_score(sample.target, predict(model, sample), sample_weight=sample.weight)
    importance = {}
    inputs: list[tuple[npt.NDArray[Any], int, str]] = [
        (sample.numeric, index, feature.name) for index, feature in enumerate(declaration.numeric)
    ]
    inputs += [(sample.categorical, index, feature.name) for index, feature in enumerate(declaration.categorical)]
    for columns, index, name in inputs:
        kept = columns[:, index].copy()
        losses = []
        for _ in range(_IMPORTANCE_REPEATS):
            columns[:, index] = rng.permutation(kept)
            shuffled = roc_auc_score(sample.target, predict(model, sample), sample_weight=sample.weight)
            losses.append(baseline - shuffled)
        columns[:, index] = kept
        importance[name] = float(np.mean(losses))
    return importance


def _write(contract: Contract, folder: Path) -> None:
    (folder / CONTRACT_FILE).write_text(contract.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _measure_parity(
    network: CalibratedNetwork, served: CreditRiskModel, test: Dataset, extremes: tuple[Floats, Integers]
) -> Gate:
    rows = test.take(np.arange(min(len(test), PARITY_ROWS)))
    numeric = np.concatenate([rows.numeric, extremes[0]])
    categorical = np.concatenate([rows.categorical, extremes[1]])
    with torch.no_grad():
        trained = network(torch.from_numpy(numeric), torch.from_numpy(categorical)).numpy()
    return parity_gate(trained, served.run({"numeric": numeric, "categorical": categorical}))
