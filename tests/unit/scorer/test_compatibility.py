"""The compatibility rule as the service applies it: the challenger refuses clients exactly when the rule says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorer.applications.decoder import ApplicationDecoder
from scorer.contract import CategoricalFeature, Contract, Feature, read_contract
from scorer.problems import Problem
from unit.scorer.contracts import agreement

CASES = agreement("cases/compatibility.json")["cases"]
# Problems that a decoder cannot see: another unit of the same number, another way of the score, reasons or grades.
UNSEEN = {"unit-changed", "monotonicity-dropped", "reason-code-changed", "grades-changed"}


def contract_of(document: dict[str, Any], folder: Path) -> Contract:
    file = folder / "contract.json"
    file.write_text(json.dumps(document))
    return read_contract(file)


def values(feature: Feature) -> list[float | str | None]:
    """Return the extremes of a feature's range or all of its categories, and all that else it accepts."""
    missing = [None, *(feature.missing_values or ())] if feature.missing else []
    if isinstance(feature, CategoricalFeature):
        return [*feature.categories, *(["none of them"] if feature.other else []), *missing]
    return [feature.minimum, feature.maximum, *missing]


def requests(contract: Contract) -> Iterator[bytes]:
    """Yield what clients of a model may send: each kind of value of each feature, and all ignored fields."""
    usual: dict[str, Any] = {feature.name: values(feature)[0] for feature in contract.features}
    for feature in contract.features:
        for value in values(feature):
            yield json.dumps({**usual, feature.name: value}).encode()
        if feature.missing:
            yield json.dumps({name: value for name, value in usual.items() if name != feature.name}).encode()
    yield json.dumps({**usual, **{name: {"any": ["value"]} for name in contract.ignored}}).encode()


def read(contract: Contract, body: bytes) -> set[str] | None:
    """Return the features that an application lacks for a model, None if the model refuses it."""
    try:
        numeric, codes = ApplicationDecoder(contract).decode(body)
    except Problem as problem:
        if problem.status != 422:
            raise
        return None
    numbers = {feature.name for feature, number in zip(contract.numeric, numeric[0], strict=True) if np.isnan(number)}
    coded = zip(contract.categorical, codes[0], strict=True)
    return numbers | {feature.name for feature, code in coded if code == feature.missing_code}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_challenger_misreads_some_request_of_the_champions_clients_if_and_only_if_a_field_is_incompatible(
    case: dict[str, Any], tmp_path: Path
) -> None:
    """It refuses the request, or takes for a value what meant that there is none."""
    champion, challenger = (contract_of(case[side], tmp_path) for side in ("champion", "challenger"))
    both = [(read(champion, body), read(challenger, body)) for body in requests(champion)]
    assert all(lacking is not None for lacking, _ in both)
    names = {feature.name for feature in challenger.features}
    misread = [now is None or bool(((before or set()) & names) - now) for before, now in both]
    visible = {problem["code"] for problem in case["problems"]} - UNSEEN
    assert any(misread) == bool(visible)
