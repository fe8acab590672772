"""Reading the model contract: format versions 1 to 3, and what makes one unservable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scorer.contract import ContractError, read_contract
from unit.scorer.contracts import DOCUMENT, FOLDER, validator

GOLDEN_3 = json.loads((FOLDER / "golden/model-contract-3.json").read_text("utf-8"))
INCOME, RATE, SCORE, PURPOSE = GOLDEN_3["features"]


@pytest.mark.parametrize(("version", "ignored"), [(1, ()), (2, ("gender",)), (3, ("gender",))])
def test_the_golden_contracts_of_all_versions_are_read(version: int, ignored: tuple[str, ...]) -> None:
    contract = read_contract(FOLDER / f"golden/model-contract-{version}.json")
    assert contract.ignored == ignored
    assert contract.format_version == max(version, 2)
    # What /v1/model answers is a valid contract again, whatever version was read.
    assert validator("model-contract").is_valid(json.loads(msgspec.json.encode(contract)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 4}, "Invalid enum value 4"),
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
    file = tmp_path / "contract.json"
    file.write_text(json.dumps({**DOCUMENT, **change}))
    with pytest.raises(ContractError, match=reason):
        read_contract(file)


def test_version_3_says_what_may_be_missing_and_what_training_saw() -> None:
    contract = read_contract(FOLDER / "golden/model-contract-3.json")
    income, _, score, purpose = contract.features
    assert not income.missing
    assert score.missing_values == (999, -1)
    assert contract.numeric[0].training_range == (6_000, 400_000)
    assert (purpose.missing, contract.categorical[0].other) == (True, True)
    assert (contract.categorical[0].missing_code, contract.categorical[0].other_code) == (3, 4)
    assert json.loads(msgspec.json.encode(contract)) == GOLDEN_3


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
    file = tmp_path / "contract.json"
    file.write_text(json.dumps({**GOLDEN_3, **change}))
    with pytest.raises(ContractError, match=reason):
        read_contract(file)
