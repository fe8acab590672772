"""Reading the model contract: format versions 1 to 4, and what makes one unservable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scorer.contract import ContractError, ExpectedCost, read_contract
from unit.scorer.contracts import DOCUMENT, FOLDER, validator

GOLDEN_3 = json.loads((FOLDER / "golden/model-contract-3.json").read_text("utf-8"))
GOLDEN_4 = json.loads((FOLDER / "golden/model-contract-4.json").read_text("utf-8"))
INCOME, RATE, SCORE, PURPOSE = GOLDEN_3["features"]
INCOME_4 = GOLDEN_4["features"][0]


def assert_refused(document: dict[str, Any], reason: str, folder: Path) -> None:
    file = folder / "contract.json"
    file.write_text(json.dumps(document))
    with pytest.raises(ContractError, match=reason):
        read_contract(file)


@pytest.mark.parametrize(("version", "ignored"), [(1, ()), (2, ("gender",)), (3, ("gender",)), (4, ("gender",))])
def test_the_golden_contracts_of_all_versions_are_read(version: int, ignored: tuple[str, ...]) -> None:
    contract = read_contract(FOLDER / f"golden/model-contract-{version}.json")
    assert contract.ignored == ignored
    assert contract.format_version == max(version, 2)
    # What /v1/model answers is a valid contract again, whatever version was read.
    assert validator("model-contract").is_valid(json.loads(msgspec.json.encode(contract)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 5}, "Invalid enum value 5"),
        ({"colour": "red"}, "unknown field"),
        ({"features": []}, "length >= 1"),
        ({"features": [DOCUMENT["features"][0]] * 2}, "income appears twice"),
        ({"reference_applicant": {"income": 1.0}}, "reference_applicant"),
        ({"decision_threshold": 1.0}, "decision_threshold"),
        ({"score_histogram": {"edges": [0.0, 0.0, 1.0], "counts": [1, 1]}}, "do not increase"),
        ({"score_histogram": {"edges": [0.0, 1.0], "counts": [1, 1]}}, "one more edge"),
        ({"features": [{**DOCUMENT["features"][0], "name": "applicant_id"}]}, "applicant_id: the name is reserved"),
        ({"ignored": []}, "format version 1 has no key `ignored`"),
        ({"format_version": 2}, "format version 2 requires the key `ignored`"),
        ({"format_version": 2, "ignored": ["home"]}, "ignored field home is also a feature"),
        ({"format_version": 2, "ignored": ["a", "b", "a"]}, "ignored field a appears twice"),
        ({"format_version": 2, "ignored": [""]}, "length >= 1"),
        ({"format_version": 2, "ignored": ["applicant_id"]}, "applicant_id: the name is reserved"),
    ],
)
def test_a_contract_that_cannot_be_served_is_refused_with_the_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert_refused({**DOCUMENT, **change}, reason, tmp_path)


def test_version_3_says_what_may_be_missing_and_what_training_saw() -> None:
    contract = read_contract(FOLDER / "golden/model-contract-3.json")
    income, _, score, purpose = contract.features
    assert not income.missing
    assert score.missing_values == (999, -1)
    assert contract.numeric[0].training_range == (6_000, 400_000)
    assert (purpose.missing, contract.categorical[0].other) == (True, True)
    assert (contract.categorical[0].missing_code, contract.categorical[0].other_code) == (3, 4)
    assert json.loads(msgspec.json.encode(contract)) == GOLDEN_3


def test_version_4_says_which_way_scores_go_and_how_decisions_are_made() -> None:
    contract = read_contract(FOLDER / "golden/model-contract-4.json")
    assert [feature.monotonic for feature in contract.features] == ["decreasing", "increasing", "decreasing", None]
    assert contract.features[0].adverse_action == "Your income is too low"
    assert contract.decision_rule == ExpectedCost(loss_given_default=0.45, margin=0.05)
    assert json.loads(msgspec.json.encode(contract)) == GOLDEN_4


@pytest.mark.parametrize(
    "rule",
    [
        {"method": "ks_maximum"},
        {"method": "approval_rate", "approval_rate": 0.8},
        {"method": "expected_cost", "loss_given_default": 1.0, "margin": 0.05},
        {"method": "fixed"},
    ],
)
def test_every_decision_rule_is_read_and_told(rule: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_text(json.dumps({**GOLDEN_4, "decision_rule": rule}))
    told = json.loads(msgspec.json.encode(read_contract(file)))
    assert told["decision_rule"] == rule
    assert validator("model-contract").is_valid(told)


def test_without_training_ranges_all_allowed_values_are_usual() -> None:
    contract = read_contract(FOLDER / "golden/model-contract-2.json")
    assert {feature.training_range for feature in contract.numeric} == {
        (feature.minimum, feature.maximum) for feature in contract.numeric
    }


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": [without(INCOME, "missing")]}, "version 3 requires the key `missing` in income"),
        ({"features": [without(INCOME, "training_maximum")]}, "requires the key `training_maximum` in income"),
        ({"features": [without(PURPOSE, "other")]}, "requires the key `other` in purpose"),
        ({"format_version": 2}, "format version 2 has no key `probability_limits`"),
        ({"features": [{**INCOME, "other": False}]}, "unknown field `other`"),
        ({"features": [{**INCOME, "training_minimum": -1.0}]}, "income: training range -1.0 to 400000.0 is not within"),
        ({"features": [{**INCOME, "training_maximum": 2e6}]}, "income: training range"),
        ({"features": [{**INCOME, "training_minimum": 5e5}]}, "income: training range"),
        ({"features": [{**INCOME, "missing_values": [9.0]}]}, "income: has missing_values although"),
        ({"features": [{**SCORE, "missing_values": [9.0, 9.0]}]}, "bureau_score: a missing value appears twice"),
        ({"features": [{**PURPOSE, "missing_values": ["Car"]}]}, "purpose: Car is a category and means missing"),
        ({"reference_applicant": {**GOLDEN_3["reference_applicant"], "bureau_score": 999.0}}, "value means missing"),
        ({"probability_limits": {"floor": 0.5, "ceiling": 0.5}}, "probability_limits: 0 < 0.5 < 0.5 < 1"),
        ({"probability_limits": {"floor": 0.0, "ceiling": 0.5}}, "probability_limits"),
        ({"probability_limits": {"floor": 0.1}}, "missing required field `ceiling`"),
    ],
)
def test_a_contract_of_version_3_that_cannot_be_served_is_refused_with_the_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert_refused({**GOLDEN_3, **change}, reason, tmp_path)


def grade(name: str, end: float) -> dict[str, Any]:
    return {"name": name, "upper_probability": end, "expected_default_rate": 0.1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"features": [without(INCOME_4, "monotonic")]}, "version 4 requires the key `monotonic` in income"),
        ({"features": [without(INCOME_4, "adverse_action")]}, "requires the key `adverse_action` in income"),
        ({"features": [{**INCOME_4, "monotonic": "up"}]}, "Invalid enum value 'up'"),
        ({"format_version": 3}, "format version 3 has no key `decision_rule`"),
        ({"decision_rule": {"method": "coin"}}, "Invalid value 'coin'"),
        ({"decision_rule": {"method": "approval_rate"}}, "missing required field `approval_rate`"),
        ({"decision_rule": {"method": "fixed", "margin": 0.1}}, "unknown field `margin`"),
        ({"default_rate": 0.0}, "default_rate"),
        ({"grades": [grade("A", 0.2), grade("B", 0.2)]}, "grades: upper_probability does not increase"),
        ({"grades": [grade("A", 0.2), grade("B", 0.9)]}, "grades: the last one ends at 0.9, not at 1"),
        ({"grades": [grade("A", 0.2), grade("A", 1.0)]}, "grades: A appears twice"),
    ],
)  # fmt: skip
def test_a_contract_of_version_4_that_cannot_be_served_is_refused_with_the_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert_refused({**GOLDEN_4, **change}, reason, tmp_path)


@pytest.mark.parametrize("key", ["decision_rule", "grades", "default_rate"])
def test_a_contract_of_version_4_without_one_of_its_keys_is_refused(key: str, tmp_path: Path) -> None:
    assert_refused(without(GOLDEN_4, key), f"version 4 requires the key `{key}`", tmp_path)
