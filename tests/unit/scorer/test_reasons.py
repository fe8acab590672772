"""Reasons: exact if features interact in pairs, close otherwise, and never a protected attribute."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import Contract, Feature
from scorer.model.bundle import Model, load_model
from scorer.model.identity import Identity
from scorer.model.mixtures import Predict
from scorer.model.reasons import Explainer, Explanation, shapley_of_pairs
from scorer.model.scorecard import Scorecard, log_odds
from trainer.data.synthetic import generate

LogOdds = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
POINTS = Scorecard(600, 50, 20).points_per_log_odds


def contract(protected: tuple[str, ...] = ()) -> Contract:
    """Three numbers and two categories; the reference is 0 and the first category everywhere."""
    numeric = [
        {"kind": "numeric", "name": name, "unit": "USD", "minimum": -10.0, "maximum": 10.0,
         "description": f"The {name}", "reason_code": f"R-{name}", "protected": name in protected}
        for name in ("a", "b", "c")
    ]  # fmt: skip
    categorical = [
        {"kind": "categorical", "name": name, "categories": ["none", "some", "much"], "description": "",
         "reason_code": f"R-{name}", "protected": name in protected}
        for name in ("d", "e")
    ]  # fmt: skip
    document = {
        "format_version": 1,
        "model_name": "m",
        # The contract's order may differ from that of the columns.
        "features": [categorical[0], *numeric, categorical[1]],
        "reference_applicant": {"a": 0.0, "b": 0.0, "c": 0.0, "d": "none", "e": "none"},
        "score_histogram": {"edges": [0.0, 1.0], "counts": [1]},
        "decision_threshold": 0.5,
        "training_data_sha256": "0" * 64,
    }
    return msgspec.convert(document, Contract)


def predicting(function: LogOdds) -> Predict:
    def predict(numeric: FloatRows, codes: CodeRows) -> npt.NDArray[np.float32]:
        rows = np.concatenate([numeric.astype(np.float64), codes.astype(np.float64)], axis=1)
        return (1 / (1 + np.exp(-function(rows)))).astype(np.float32)

    return predict


def explained(function: LogOdds, row: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """The contributions to a row's score, in the contract's order."""
    return np.array(explain(Explainer(contract(), predicting(function)), as_input(row)).contributions)


def explain(explainer: Explainer, row: tuple[FloatRows, CodeRows]) -> Explanation:
    (explanation,) = explainer.explain(*row)
    return explanation


def exact_shapley(function: LogOdds, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The definition, over every coalition, against a reference of zeros."""
    players = len(row)
    values = np.zeros(players)
    for player in range(players):
        others = [other for other in range(players) if other != player]
        for size in range(players):
            weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            for coalition in itertools.combinations(others, size):
                without = np.zeros(players)
                without[list(coalition)] = row[list(coalition)]
                joined = without.copy()
                joined[player] = row[player]
                values[player] += weight * float(function(np.stack([joined, without])) @ [1, -1])
    return values


def pairwise(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a, b, c, d, e = rows.T
    return np.asarray(0.4 * a - 0.2 * b + 0.3 * a * c - 0.25 * b * d + 0.1 * c * e + 0.5 * np.sin(d))


def tangled(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return pairwise(rows) + 0.05 * rows[:, 0] * rows[:, 1] * rows[:, 2] * rows[:, 3]


ROWS = [(1.5, -2.0, 0.5, 2, 1), (3.0, 0.0, -1.0, 0, 2), (0.0, 0.0, 2.0, 1, 0), (0.0, 0.0, 0.0, 0, 0)]
# The contract's order: d, a, b, c, e.
ORDER = [3, 0, 1, 2, 4]


def as_input(row: tuple[float, ...]) -> tuple[FloatRows, CodeRows]:
    return np.array([row[:3]], np.float32), np.array([row[3:]], np.int64)


@pytest.mark.parametrize("row", ROWS)
def test_contributions_are_the_exact_shapley_values_if_features_interact_in_pairs(row: tuple[float, ...]) -> None:
    expected = exact_shapley(pairwise, np.array(row))[ORDER]
    np.testing.assert_allclose(explained(pairwise, row), expected, atol=2e-5)


@pytest.mark.parametrize("row", ROWS)
def test_with_deeper_interactions_they_stay_close_and_still_sum_to_the_difference(row: tuple[float, ...]) -> None:
    contributions, expected = explained(tangled, row), exact_shapley(tangled, np.array(row))[ORDER]
    assert contributions.sum() == pytest.approx(float(tangled(np.array([row]))[0]), abs=2e-5)
    assert np.abs(contributions - expected).max() <= 0.1 * np.abs(expected).max()


def test_a_feature_that_equals_the_references_contributes_nothing() -> None:
    assert explained(tangled, (1.0, 0.0, 2.0, 0, 1))[[0, 2]].tolist() == [0, 0]


def test_rows_explained_together_get_the_same_explanations_as_alone() -> None:
    explainer = Explainer(contract(), predicting(tangled))
    numeric, codes = (np.concatenate(rows) for rows in zip(*map(as_input, ROWS), strict=True))
    together = explainer.explain(numeric, codes)
    assert together == [explain(explainer, as_input(row)) for row in ROWS]


def test_only_what_differs_from_the_reference_is_scored() -> None:
    scored: list[int] = []

    def predict(numeric: FloatRows, codes: CodeRows) -> npt.NDArray[np.float32]:
        scored.append(len(numeric))
        return predicting(tangled)(numeric, codes)

    explainer = Explainer(contract(), predict)
    counts = {(1.5, -2.0, 0.5, 2, 1): 1 + 5 + 3, (3.0, 0.0, -1.0, 0, 2): 1 + 3 + 2, (0.0, 0.0, 0.0, 0, 0): 1}
    for row, count in counts.items():
        explain(explainer, as_input(row))
        assert scored[-1] == count


def test_many_rows_get_the_same_contributions_and_codes_as_alone() -> None:
    scored: list[int] = []

    def predict(numeric: FloatRows, codes: CodeRows) -> npt.NDArray[np.float32]:
        scored.append(len(numeric))
        return predicting(tangled)(numeric, codes)

    explainer, draw = Explainer(contract(protected=("b",)), predict), np.random.default_rng(0)
    # A few values and NaN occur often, in the first column; the reference's among them.
    numeric = draw.choice([0.0, 1.5, -2.0, np.nan], (1_000, 3)).astype(np.float32)
    numeric[:, 1] = np.where(np.isnan(numeric[:, 1]), 3.0, draw.uniform(-2, 2, 1_000))
    numeric[:, 2] = np.nan_to_num(numeric[:, 2])
    numeric[:, 0] = np.where(np.isnan(numeric[:, 0]), 9.0, numeric[:, 0])
    codes = draw.integers(0, 3, (1_000, 2))
    probabilities = predicting(tangled)(numeric, codes)
    found = explainer.attribute(numeric, codes, probabilities)
    needed = (numeric != 0).sum() + (codes != 0).sum()
    assert scored[-1] == needed + sum(len(set(column[column != 0])) for column in numeric.T)
    features, counts = explainer.most_harmful(found, 2)
    for row, (first, last) in enumerate(itertools.pairwise([0, *counts.cumsum()])):
        (alone,) = explainer.explain(numeric[row : row + 1], codes[row : row + 1])
        np.testing.assert_allclose(found.contributions[row], alone.contributions, atol=1e-6)
        assert found.values[row].tolist() == alone.values
        names = [f"R-{'dabce'[feature]}" for feature in features[first:last]]
        assert names == explainer.codes(alone, 2)
    np.testing.assert_array_equal(found.probabilities, probabilities)


def test_many_rows_that_lack_a_number_are_scored_once() -> None:
    explainer = Explainer(contract(), predicting(lambda rows: np.nan_to_num(rows, nan=2.0) @ np.arange(1.0, 6.0) / 9))
    rows = np.full((300, 3), np.nan, np.float32)
    found = explainer.attribute(rows, np.zeros((300, 2), np.int64)).contributions
    assert found == pytest.approx(np.tile(found[:1], (300, 1)))
    assert found[0][ORDER.index(0)] == pytest.approx(2 / 9, abs=1e-5)


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_a_model_with_only_numeric_or_only_categorical_features_is_explained(kind: str) -> None:
    whole = contract()
    features: tuple[Feature, ...] = whole.numeric if kind == "numeric" else whole.categorical
    usual = {feature.name: whole.reference_applicant[feature.name] for feature in features}
    some = msgspec.structs.replace(whole, features=features, reference_applicant=usual)
    predict = predicting(lambda rows: rows @ np.arange(1.0, 1 + rows.shape[1]))
    rows = np.array([[2.0, 0.0, 1.0]], np.float32), np.array([[2, 1]])
    taken = (rows[0], rows[1][:, :0]) if kind == "numeric" else (rows[0][:, :0], rows[1])
    expected = [2.0, 0.0, 3.0] if kind == "numeric" else [2.0, 2.0]
    np.testing.assert_allclose(explain(Explainer(some, predict), taken).contributions, expected, atol=2e-5)


def test_three_differing_features_are_exact_with_any_interactions() -> None:
    first, last, all_play = np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 6.0, 8.0]]), np.ones((1, 3), dtype=bool)
    assert shapley_of_pairs(first, last, np.array([12.0]), all_play).sum() == pytest.approx(12)
    found = explained(lambda rows: rows[:, 0] * rows[:, 1] * rows[:, 2], (1.0, 2.0, -1.0, 0, 0))
    np.testing.assert_allclose(found, np.array([0, -2, -2, -2, 0]) / 3, atol=1e-5)


def test_reasons_come_most_harmful_first_with_code_sentence_and_points() -> None:
    explainer = Explainer(contract(), predicting(pairwise))
    explanation = explain(explainer, as_input((2.0, -2.0, 0.0, 2, 0)))
    reasons = explainer.reasons(explanation, 11, POINTS)
    assert [reason.feature for reason in reasons] == ["d", "b", "a"]
    assert all(earlier.contribution >= later.contribution > 0 for earlier, later in itertools.pairwise(reasons))
    assert reasons[0].reason == "d is much; the reference is none"
    assert reasons[2].reason == "The a is 2 USD, above the reference of 0"
    assert reasons[2].code == "R-a"
    assert reasons[2].points == pytest.approx(-0.8 * 20 / math.log(2), abs=1e-3)
    assert explainer.reasons(explanation, 1, POINTS) == reasons[:1]


def test_a_protected_attribute_is_in_the_audit_and_never_a_reason() -> None:
    explainer = Explainer(contract(protected=("a", "d")), predicting(pairwise))
    explanation = explain(explainer, as_input((2.0, -2.0, 0.0, 2, 0)))
    assert [reason.feature for reason in explainer.reasons(explanation, 11, POINTS)] == ["b"]
    audit = explainer.audit(explanation)
    assert [entry.feature for entry in audit.contributions if entry.protected] == ["d", "a"]
    assert sum(entry.contribution for entry in audit.contributions) == pytest.approx(audit.log_odds_difference)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, Identity("credit-risk", "1", "", {}, {}))


def changed(model: Model, **fields: Any) -> tuple[FloatRows, CodeRows]:
    return model.decoder.decode(msgspec.json.encode({**model.contract.reference_applicant, **fields}))


def test_the_explained_score_of_a_trained_model_is_its_score(model: Model) -> None:
    row = changed(model, credit_score=500.0, employment_status="Unemployed", loan_purpose="Other", annual_income=9_000)
    explanation = explain(model.explainer, row)
    assert explanation.probability == pytest.approx(float(model.network.score(*row)[0]), abs=1e-6)
    difference = log_odds(explanation.probability) - log_odds(model.explainer.reference_probability)
    assert sum(explanation.contributions) == pytest.approx(difference, abs=1e-9)


def test_unemployment_is_the_first_reason_of_a_trained_model(model: Model) -> None:
    row = changed(model, employment_status="Unemployed", credit_score=640.0)
    reasons = model.explainer.reasons(explain(model.explainer, row), 4, POINTS)
    assert reasons[0].feature == "employment_status"
    assert "Unemployed" in reasons[0].reason


def test_a_worse_credit_score_never_lowers_its_contribution(model: Model) -> None:
    place = [feature.name for feature in model.contract.features].index("credit_score")
    for _, applicant in generate(30, seed=8)[[f.name for f in model.contract.features]].iterrows():
        rows = [
            model.decoder.decode(msgspec.json.encode({**applicant.to_dict(), "credit_score": score}))
            for score in range(800, 349, -50)
        ]
        contributions = [explain(model.explainer, row).contributions[place] for row in rows]
        assert (np.diff(contributions) >= 0).all()
