import json
from typing import Any

import pytest
from pydantic import ValidationError

from conftest import REPOSITORY
from trainer.export.contract import Contract

GOLDEN = REPOSITORY / "contracts/golden"


@pytest.fixture
def document() -> Any:
    return json.loads((GOLDEN / "model-contract-2.json").read_text(encoding="utf-8"))


def test_format_version_2_is_read_and_written_unchanged(document: dict[str, Any]) -> None:
    contract = Contract.model_validate_json((GOLDEN / "model-contract-2.json").read_bytes())
    assert contract.ignored == tuple(document["ignored"])
    assert contract.model_dump(mode="json") == document


def test_format_version_1_is_read_as_a_contract_that_ignores_no_field() -> None:
    contract = Contract.model_validate_json((GOLDEN / "model-contract-1.json").read_bytes())
    assert (contract.format_version, contract.ignored) == (2, ())
    assert contract.features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "format_version"),
        ({"format_version": 1}, "format_version"),
        ({"colour": "red"}, "colour"),
        ({"ignored": ["a", "a"]}, "more than once under `features` and `ignored`: a"),
        ({"ignored": [""]}, "ignored"),
    ],
    ids=["a newer version", "version 1 with ignored fields", "an unknown key", "a duplicate", "an empty name"],
)
def test_an_invalid_contract_is_refused(change: dict[str, Any], message: str, document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=message):
        Contract.model_validate({**document, **change})


def test_an_ignored_field_cannot_be_a_feature(document: dict[str, Any]) -> None:
    name = document["features"][0]["name"]
    with pytest.raises(ValidationError, match=name):
        Contract.model_validate({**document, "ignored": [name]})


def test_version_2_must_list_its_ignored_fields(document: dict[str, Any]) -> None:
    del document["ignored"]
    with pytest.raises(ValidationError, match="ignored"):
        Contract.model_validate(document)
