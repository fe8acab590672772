import json
from typing import Any

import pytest
from pydantic import ValidationError

from conftest import REPOSITORY
from trainer.export.contract import Contract, NumericContract

GOLDEN = REPOSITORY / "contracts/golden"


def grade(name: str, end: float) -> dict[str, Any]:
    return {"name": name, "upper_probability": end, "expected_default_rate": 0.1}


@pytest.fixture
def document() -> Any:
    return json.loads((GOLDEN / "model-contract-4.json").read_text(encoding="utf-8"))


def test_format_version_4_is_read_and_written_unchanged(document: dict[str, Any]) -> None:
    contract = Contract.model_validate_json((GOLDEN / "model-contract-4.json").read_bytes())
    assert contract.ignored == tuple(document["ignored"])
    assert contract.model_dump(mode="json") == document


@pytest.mark.parametrize(("version", "ignored"), [(1, ()), (2, ("gender",))])
def test_an_older_format_is_read_as_a_contract_that_refuses_what_it_refused(
    version: int, ignored: tuple[str, ...]
) -> None:
    contract = Contract.model_validate_json((GOLDEN / f"model-contract-{version}.json").read_bytes())
    assert (contract.format_version, contract.ignored) == (4, ignored)
    assert not any(feature.missing or feature.missing_values for feature in contract.features)
    for feature in contract.features:
        if isinstance(feature, NumericContract):
            assert (feature.training_minimum, feature.training_maximum) == (feature.minimum, feature.maximum)
        else:
            assert not feature.other
    assert 0 < contract.probability_limits.floor < 1e-8


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_format_promises_no_direction_and_has_the_rule_of_its_time(version: int) -> None:
    contract = Contract.model_validate_json((GOLDEN / f"model-contract-{version}.json").read_bytes())
    assert {(feature.monotonic, feature.adverse_action) for feature in contract.features} == {(None, "")}
    assert (contract.decision_rule.method, contract.grades, contract.default_rate) == ("ks_maximum", (), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 5}, "format_version"),
        ({"format_version": 3}, "format_version"),
        ({"format_version": 2}, "format_version"),
        ({"format_version": 1}, "format_version"),
        ({"colour": "red"}, "colour"),
        ({"ignored": ["a", "a"]}, "more than once under `features` and `ignored`: a"),
        ({"ignored": [""]}, "ignored"),
        ({"probability_limits": {"floor": 0.5, "ceiling": 0.5}}, "floor 0.5 is not below ceiling 0.5"),
        ({"probability_limits": {"floor": 0, "ceiling": 0.5}}, "probability_limits.floor"),
        ({"decision_rule": {"method": "coin"}}, "decision_rule"),
        ({"decision_rule": {"method": "approval_rate"}}, "decision_rule.approval_rate"),
        ({"decision_rule": {"method": "fixed", "margin": 0.1}}, "decision_rule.fixed.margin"),
        ({"grades": [grade("A", 0.2), grade("B", 0.2)]}, "upper_probability must rise to 1, but is 0.2, 0.2"),
        ({"grades": [grade("A", 0.2), grade("B", 0.9)]}, "upper_probability must rise to 1"),
        ({"grades": [grade("A", 0.2), grade("A", 1.0)]}, "more than one grade is named A"),
        ({"default_rate": 1.0}, "default_rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_invalid_contract_is_refused(change: dict[str, Any], message: str, document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=message):
        Contract.model_validate({**document, **change})


def test_an_ignored_field_cannot_be_a_feature(document: dict[str, Any]) -> None:
    name = document["features"][0]["name"]
    with pytest.raises(ValidationError, match=name):
        Contract.model_validate({**document, "ignored": [name]})


@pytest.mark.parametrize("key", ["ignored", "probability_limits", "decision_rule", "grades", "default_rate"])
def test_version_4_must_have_all_its_keys(key: str, document: dict[str, Any]) -> None:
    del document[key]
    with pytest.raises(ValidationError, match=key):
        Contract.model_validate(document)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bureau_score", {"training_minimum": 299.0}, "bureau_score: the range of the training data is not within"),
        ("income", {"monotonic": "up"}, "features.0.numeric.monotonic"),
        ("bureau_score", {"missing": False}, "bureau_score: `missing_values` without `missing`"),
        ("purpose", {"missing": False}, "purpose: `missing_values` without `missing`"),
        ("purpose", {"missing_values": ["Car"]}, "purpose: means missing, but is also a category: Car"),
    ],
)
def test_a_feature_that_contradicts_itself_is_refused(
    name: str, change: dict[str, Any], message: str, document: dict[str, Any]
) -> None:
    features = [{**feature, **(change if feature["name"] == name else {})} for feature in document["features"]]
    with pytest.raises(ValidationError, match=message):
        Contract.model_validate({**document, "features": features})
