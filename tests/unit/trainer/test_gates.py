from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainer.data.declaration import FeatureDeclaration, OtherCategories
from trainer.data.synthetic import generate
from trainer.evaluation.comparison import Comparison
from trainer.evaluation.fairness import assess_groups, minimum_adverse_impact_ratio
from trainer.evaluation.gates import (
    GateLimits,
    champion_gate,
    contract_gate,
    edge_cases,
    finite_gate,
    parity_gate,
    quality_gates,
)
from trainer.evaluation.metrics import measure
from trainer.export.contract import Contract, KsMaximum, ProbabilityLimits, ScoreHistogram, feature_contracts

LIMITS = GateLimits()


def contract_of(declaration: FeatureDeclaration) -> Contract:
    training = generate(200, seed=0)
    ranges = {
        feature.name: training[feature.name].clip(feature.minimum, feature.maximum) for feature in declaration.numeric
    }
    return Contract(
        model_name="m",
        features=feature_contracts(declaration, training.assign(**ranges)),
        ignored=declaration.ignored,
        reference_applicant={},
        score_histogram=ScoreHistogram(edges=(0, 1), counts=(1,)),
        decision_threshold=0.5,
        probability_limits=ProbabilityLimits(floor=0.001, ceiling=0.99),
        decision_rule=KsMaximum(),
        grades=(),
        default_rate=None,
        training_data_sha256="x",
    )


def verdicts(target: np.ndarray, score: np.ndarray, group: np.ndarray | None = None) -> dict[str, bool]:
    groups = {"gender": pd.Series(group if group is not None else ["x"] * len(target))}
    results = assess_groups(groups, target, score, threshold=0.5)
    return {gate.name: gate.passed for gate in quality_gates(measure(target, score), results, LIMITS)}


@pytest.fixture
def truth() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    probability = rng.beta(1, 3, 20_000)
    return (rng.random(20_000) < probability).astype(float), probability


def test_a_good_model_passes(truth: tuple[np.ndarray, np.ndarray]) -> None:
    assert all(verdicts(*truth).values())


def test_a_constant_model_fails_only_on_auc(truth: tuple[np.ndarray, np.ndarray]) -> None:
    target, score = truth
    found = verdicts(target, np.full_like(score, target.mean()))
    assert found == {"roc_auc": False, "ece": True, "adverse_impact_ratio": True}


def test_an_uncalibrated_model_fails_only_on_ece(truth: tuple[np.ndarray, np.ndarray]) -> None:
    target, score = truth
    assert verdicts(target, score**0.3) == {"roc_auc": True, "ece": False, "adverse_impact_ratio": True}


def test_an_unfair_model_fails_on_the_adverse_impact_ratio(truth: tuple[np.ndarray, np.ndarray]) -> None:
    target, score = truth
    group = np.where(score > 0.35, "b", "a")
    assert verdicts(target, score, group)["adverse_impact_ratio"] is False


def test_groups_that_are_too_small_are_not_judged(truth: tuple[np.ndarray, np.ndarray]) -> None:
    target, score = truth
    group = np.full(len(target), "many", dtype=object)
    group[np.flatnonzero(score > 0.6)[:49]] = "few"
    results = assess_groups({"g": pd.Series(group)}, target, score, threshold=0.5)
    assert minimum_adverse_impact_ratio(results) == 1
    assert [r.adverse_impact_ratio for r in results if r.group == "few"] == [None]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_that_is_not_a_probability_fails(bad: float) -> None:
    assert not finite_gate(np.array([0.5, bad], dtype=np.float32)).passed


def test_the_export_may_differ_by_one_in_a_hundred_thousand() -> None:
    trained = np.full(1_000, 0.5, dtype=np.float32)
    assert parity_gate(trained, trained + np.float32(5e-6)).passed
    assert not parity_gate(trained, trained + np.float32(5e-5)).passed
    assert not parity_gate(trained, np.full(1_000, np.nan, dtype=np.float32)).passed


@pytest.mark.parametrize(("bound", "passed"), [(0.0, True), (-0.0099, True), (-0.011, False), (float("nan"), False)])
def test_the_lower_bound_of_the_difference_from_production_decides(bound: float, passed: bool) -> None:
    assert champion_gate(Comparison(0.0, bound), LIMITS, reason="version 1").passed is passed


def test_a_production_model_that_cannot_be_measured_does_not_pass() -> None:
    gate = champion_gate(None, LIMITS, reason="its files are gone")
    assert (gate.passed, gate.value) == (False, None)


def test_the_first_model_is_compatible(declaration: FeatureDeclaration) -> None:
    assert contract_gate(None, contract_of(declaration), LIMITS).passed


def test_excluding_protected_attributes_is_compatible_but_adding_them_back_is_not(
    declaration: FeatureDeclaration,
) -> None:
    full, reduced = contract_of(declaration), contract_of(declaration.without_protected())
    assert contract_gate(full, reduced, LIMITS).passed
    gate = contract_gate(reduced, full, LIMITS)
    assert (gate.passed, gate.value) == (False, 2)
    allowed = contract_gate(reduced, full, GateLimits(allow_contract_change=True))
    assert allowed.passed
    assert "gender: feature-added" in allowed.detail


@pytest.mark.parametrize(
    ("feature", "change", "message"),
    [
        ("credit_score", {"maximum": 800.0}, "credit_score: range-narrowed: was 300 to 850, is 300 to 800"),
        ("credit_score", {"unit": "percent"}, "credit_score: unit-changed: was points, is percent"),
        ("gender", {"categories": ("Female", "Male")}, "gender: category-removed: no longer allowed: Other"),
        ("gender", {"reason_code": "R99"}, "gender: reason-code-changed: was R06, is R99"),
    ],
)
def test_a_refusal_names_feature_code_and_values(
    feature: str, change: dict[str, object], message: str, declaration: FeatureDeclaration
) -> None:
    features = tuple(item.model_copy(update=change) if item.name == feature else item for item in declaration.features)
    changed = declaration.model_copy(update={"features": features})
    gate = contract_gate(contract_of(declaration), contract_of(changed), LIMITS)
    assert not gate.passed
    assert message in gate.detail


def test_a_refused_drop_says_what_to_do(declaration: FeatureDeclaration) -> None:
    dropped = declaration.model_copy(update={"features": declaration.features[1:]})
    gate = contract_gate(contract_of(declaration), contract_of(dropped), LIMITS)
    assert gate.detail == (
        "annual_income: feature-dropped: clients still send it; list it under `ignored` in the feature declaration; "
        "or pass --allow-contract-change"
    )


def test_edge_cases_reach_every_bound_and_every_category(declaration: FeatureDeclaration) -> None:
    typical = np.array([4e4, 0.1, 680, 1e4, 12], dtype=np.float32)
    numeric, categorical = edge_cases(declaration, typical, np.zeros(6, dtype=np.int64))
    assert numeric.min(axis=0).tolist() == [f.minimum for f in declaration.numeric]
    assert numeric.max(axis=0).tolist() == [f.maximum for f in declaration.numeric]
    for index, feature in enumerate(declaration.categorical):
        assert set(categorical[:, index]) == set(range(len(feature.categories)))


def test_edge_cases_leave_out_what_may_be_missing_and_nothing_else(declaration: FeatureDeclaration) -> None:
    lenient: dict[str, dict[str, Any]] = {
        "credit_score": {"missing": "allowed"},
        "gender": {"missing": "allowed", "other": OtherCategories()},
    }
    features = tuple(feature.model_copy(update=lenient.get(feature.name, {})) for feature in declaration.features)
    typical = np.array([4e4, 0.1, 680, 1e4, 12], dtype=np.float32)
    numeric, categorical = edge_cases(
        declaration.model_copy(update={"features": features}), typical, np.zeros(6, dtype=np.int64)
    )
    assert np.isnan(numeric).any(axis=0).tolist() == [False, False, True, False, False]
    assert set(categorical[:, 0]) == {0, 1, 2, 3, 4}
    assert set(categorical[:, 1]) == {0, 1, 2, 3}
    assert (np.isnan(numeric[:, 2]) & (categorical[:, 0] == 3)).any()
