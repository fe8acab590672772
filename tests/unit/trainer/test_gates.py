import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainer.data.declaration import FeatureDeclaration, OtherCategories
from trainer.data.synthetic import generate
from trainer.evaluation.chance import chance_levels
from trainer.evaluation.comparison import Comparison
from trainer.evaluation.fairness import assess_groups
from trainer.evaluation.gates import (
    Gate,
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


def judged(
    target: np.ndarray, score: np.ndarray, group: np.ndarray | None = None, limits: GateLimits = LIMITS
) -> dict[str, Gate]:
    groups = {"gender": pd.Series(group if group is not None else ["x"] * len(target))}
    results = assess_groups(groups, target, score, threshold=0.5)
    return {
        gate.name: gate for gate in quality_gates(measure(target, score), chance_levels(target, score), results, limits)
    }


def verdicts(target: np.ndarray, score: np.ndarray, group: np.ndarray | None = None) -> dict[str, bool]:
    return {name: gate.passed for name, gate in judged(target, score, group).items()}


def outcomes(rows: int, defaults: int) -> tuple[np.ndarray, np.ndarray]:
    """A target with so many defaults, and scores that rank it perfectly and are 0.1 off."""
    target = np.repeat([0.0, 1.0], [rows - defaults, defaults])
    return target, np.where(target == 1, 0.9, 0.1)


def approving(approved: dict[str, tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, score and group of rows, so many of each group approved at a threshold of .5; outcomes alternate."""
    group = np.repeat(list(approved), [rows for _, rows in approved.values()])
    score = np.concatenate([np.where(np.arange(rows) < yes, 0.2, 0.8) for yes, rows in approved.values()])
    return np.arange(len(group)) % 2.0, score, group


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


def test_a_few_rows_that_chance_explains_pass_and_as_many_times_a_hundred_do_not() -> None:
    """Probabilities that are 15 % too high: 200 rows cannot tell, 20,000 can."""
    rng = np.random.default_rng(4)
    probability = rng.beta(2, 4, 20_000)
    target = (rng.random(20_000) < probability).astype(float)
    off = np.minimum(1.15 * probability, 0.999)
    small = judged(target[:200], off[:200])["ece"]
    assert small.value is not None
    assert small.passed
    assert 0.03 < small.value < small.limit < 0.15
    assert "on 200 test rows; allowed 0.03, and a perfectly calibrated model exceeds 0.1" in small.detail
    assert re.search(r"about 3\d00 test rows would tell 0\.03 from chance", small.detail)
    large = judged(target, off)["ece"]
    assert (large.passed, large.limit) == (False, 0.03)
    assert "would tell" not in large.detail


def test_a_model_without_skill_is_not_taken_for_one_that_has_it_by_luck() -> None:
    target, score = outcomes(rows=100, defaults=3)
    lucky = score.copy()
    # Two of the three defaults lie in the upper third: an AUC above the limit of .65, which chance reaches too.
    lucky[:97], lucky[97:] = np.linspace(0, 1, 97), (0.75, 0.8, 0.55)
    gate = judged(target, lucky)["roc_auc"]
    assert gate.value is not None
    assert not gate.passed
    assert 0.65 < gate.value < gate.limit < 0.8
    assert "on 100 test rows, 3 of them defaults; required 0.65" in gate.detail
    assert judged(target, score)["roc_auc"].passed
    assert judged(target, lucky, limits=GateLimits(minimum_auc=0.5))["roc_auc"].limit == 0.5


def test_a_ratio_below_the_limit_is_refused_only_with_confidence() -> None:
    """The ratio is .75 both times."""
    few = judged(*approving({"a": (80, 100), "b": (36, 60)}))["adverse_impact_ratio"]
    assert few.passed
    assert "below 0.8, but by no more than chance allows: gender=b (60 rows, ratio 0.75)" in few.detail
    many = judged(*approving({"a": (1600, 2000), "b": (720, 1200)}))["adverse_impact_ratio"]
    assert many.value is not None
    assert not many.passed
    assert 0.75 < many.value < 0.8
    assert (
        "gender=b: 720 of 1200 rows approved, 0.75 times the rate of a (1600 of 2000); 50% against 50% defaulted, "
        in many.detail
    )


def test_as_many_approvals_as_a_refusal_asks_for_pass_and_one_fewer_do_not() -> None:
    refused = judged(*approving({"a": (1600, 2000), "b": (720, 1200)}))["adverse_impact_ratio"]
    asked = int(refused.detail.partition(" approved would pass")[0].rpartition(" ")[2])
    assert judged(*approving({"a": (1600, 2000), "b": (asked, 1200)}))["adverse_impact_ratio"].passed
    assert not judged(*approving({"a": (1600, 2000), "b": (asked - 1, 1200)}))["adverse_impact_ratio"].passed


def test_a_group_that_is_too_small_to_be_judged_is_named() -> None:
    gate = judged(*approving({"a": (160, 200), "few": (2, 5)}))["adverse_impact_ratio"]
    assert gate.passed
    assert "not judged, because there are fewer than 50 rows: gender=few (5 rows, ratio 0.5)" in gate.detail
    assert not judged(*approving({"a": (160, 200), "few": (0, 20)}))["adverse_impact_ratio"].passed


def test_groups_that_are_treated_alike_pass_however_many_there_are() -> None:
    """Of ten groups of 60 rows approved at the same rate of .4, the lowest ratio is nearly always below .8."""
    rng = np.random.default_rng(0)
    refused = below = 0
    for _ in range(40):
        approved = {str(group): (int(yes), 60) for group, yes in enumerate(rng.binomial(60, 0.4, 10))}
        gate = judged(*approving(approved))["adverse_impact_ratio"]
        below += "but by no more than chance allows" in gate.detail
        refused += not gate.passed
    assert below >= 38
    assert refused <= 2


def test_the_best_treated_group_needs_enough_rows_unless_no_group_has_them() -> None:
    target, score, group = approving({"a": (60, 100), "b": (50, 100), "few": (9, 9)})
    results = assess_groups({"g": pd.Series(group)}, target, score, threshold=0.5)
    assert {result.best_group for result in results} == {"a"}
    assert [result.adverse_impact_ratio for result in results] == pytest.approx([1, 50 / 60, 1 / 0.6])
    assert [result.highest_ratio is None for result in results] == [True, False, False]
    target, score, group = approving({"a": (20, 40), "few": (9, 9)})
    results = assess_groups({"g": pd.Series(group)}, target, score, threshold=0.5)
    assert {result.best_group for result in results} == {"a"}


def test_without_approvals_all_are_treated_alike() -> None:
    gate = judged(*approving({"a": (0, 200), "b": (0, 300)}))["adverse_impact_ratio"]
    assert (gate.passed, gate.value, gate.detail) == (True, 1.0, "no groups to compare")


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
