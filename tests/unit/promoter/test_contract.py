"""Which canary can answer what the champion's clients send, and what is no contract at all."""

from __future__ import annotations

import pytest

from promoter.decision.compatibility import ContractError, misfit, read_contract


def numeric(name: str, low: float, high: float) -> dict[str, object]:
    return {"name": name, "kind": "numeric", "minimum": low, "maximum": high}


PURPOSE = {"name": "purpose", "kind": "categorical", "categories": ["car", "home"]}
CHAMPION = {"features": [numeric("income", 0, 9), PURPOSE]}


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        (CHAMPION["features"], ""),
        ([numeric("income", -1, 10), {**PURPOSE, "categories": ["car", "home", "boat"]}], ""),
        ([numeric("income", 0, 8), PURPOSE], "takes income from 0 to 8 only"),
        ([numeric("income", 0, 9), {**PURPOSE, "categories": ["car"]}], "refuses purpose = home"),
        ([numeric("income", 0, 9)], "does not know purpose"),
        ([*CHAMPION["features"], numeric("age", 0, 9)], "asks for age"),
        ([numeric("income", 0, 9), numeric("purpose", 0, 9)], "purpose is numeric in the canary"),
    ],
)  # fmt: skip
def test_a_contract_fits_when_it_takes_all_that_the_champion_takes(
    features: list[dict[str, object]], fault: str
) -> None:
    found = misfit(read_contract(CHAMPION), read_contract({"features": features}))
    assert (fault in found) if fault else found == ""


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"threshold": 0.5}, "contract.features: Field required"),
        ({"features": 3}, "contract.features: Input should be a valid tuple"),
        ({"features": [{"kind": "numeric", "name": "income", "minimum": 0}]}, "features.0.numeric.maximum: Field"),
        ({"features": [{"kind": "image", "name": "face"}]}, "does not match any of the expected tags"),
    ],
)  # fmt: skip
def test_what_does_not_say_which_requests_it_takes_is_no_contract(document: dict[str, object], fault: str) -> None:
    with pytest.raises(ContractError) as raised:
        read_contract(document)
    assert fault in str(raised.value)
