"""Reading the model contract: format versions 1 and 2, and what makes one unservable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scorer.contract import ContractError, read_contract
from unit.scorer.contracts import DOCUMENT, FOLDER, validator


@pytest.mark.parametrize(("version", "ignored"), [(1, ()), (2, ("gender",))])
def test_the_golden_contracts_of_both_versions_are_read(version: int, ignored: tuple[str, ...]) -> None:
    contract = read_contract(FOLDER / f"golden/model-contract-{version}.json")
    assert contract.ignored == ignored
    assert contract.format_version == 2
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
