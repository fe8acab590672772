"""The compatibility rule as the service applies it: the challenger refuses clients exactly when the rule says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scorer.applications.decoder import ApplicationDecoder
from scorer.contract import CategoricalFeature, Contract, Feature, read_contract
from scorer.problems import Problem
from unit.scorer.contracts import agreement

CASES = agreement("cases/compatibility.json")["cases"]
# Problems that a decoder cannot see: another unit of the same number, another code of the same reason.
UNSEEN = {"unit-changed", "reason-code-changed"}


def contract_of(document: dict[str, Any], folder: Path) -> Contract:
    file = folder / "contract.json"
    file.write_text(json.dumps(document))
    return read_contract(file)


def values(feature: Feature) -> list[float | str]:
    """Return the extremes of a feature's range, or all of its categories."""
    if isinstance(feature, CategoricalFeature):
        return list(feature.categories)
    return [feature.minimum, feature.maximum]


def requests(contract: Contract) -> Iterator[bytes]:
    """Yield what clients of a model may send: each extreme of each feature, and all ignored fields."""
    usual: dict[str, Any] = {feature.name: values(feature)[0] for feature in contract.features}
    for feature in contract.features:
        for value in values(feature):
            yield json.dumps({**usual, feature.name: value}).encode()
    yield json.dumps({**usual, **{name: {"any": ["value"]} for name in contract.ignored}}).encode()


def refuses(decoder: ApplicationDecoder, body: bytes) -> bool:
    try:
        decoder.decode(body)
    except Problem as problem:
        return problem.status == 422
    return False


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_challenger_refuses_some_request_of_the_champions_clients_if_and_only_if_a_field_is_incompatible(
    case: dict[str, Any], tmp_path: Path
) -> None:
    champion, challenger = (contract_of(case[side], tmp_path) for side in ("champion", "challenger"))
    bodies = list(requests(champion))
    assert not any(refuses(ApplicationDecoder(champion), body) for body in bodies)
    decoder = ApplicationDecoder(challenger)
    visible = {problem["code"] for problem in case["problems"]} - UNSEEN
    assert any(refuses(decoder, body) for body in bodies) == bool(visible)
