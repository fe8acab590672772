"""Which canaries can answer what the champion's clients send, and which documents are not contracts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promoter.decision.compatibility import ContractError, describe, problems, read_contract

Document = dict[str, Any]
CONTRACTS = Path(__file__).parents[3] / "contracts"
CASES: Document = json.loads((CONTRACTS / "cases" / "compatibility.json").read_text())


def numeric(name: str, low: float = 0, high: float = 9, unit: str = "USD", reason: str = "R01") -> Document:
    return {"name": name, "kind": "numeric", "unit": unit, "minimum": low, "maximum": high, "reason_code": reason}


PURPOSE = {"name": "purpose", "kind": "categorical", "categories": ["car", "home"], "reason_code": "R02"}


def contract(*features: Document, ignored: tuple[str, ...] = ()) -> Document:
    return {"format_version": 2, "features": list(features), "ignored": list(ignored)}


CHAMPION = contract(numeric("income"), PURPOSE)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: str(case["name"]))
def test_the_operator_finds_the_problems_of_the_shared_cases(case: Document) -> None:
    found = problems(read_contract(case["champion"]), read_contract(case["challenger"]))
    assert [{"feature": problem.feature, "code": problem.code} for problem in found] == case["problems"]


def test_the_shared_cases_cover_every_code() -> None:
    assert {problem["code"] for case in CASES["cases"] for problem in case["problems"]} == set(CASES["codes"])


@pytest.mark.parametrize(
    ("challenger", "message"),
    [
        (contract(numeric("income")),
         "purpose: feature-dropped: clients still send it; list it under `ignored` in the feature declaration"),
        (contract(numeric("income"), PURPOSE, numeric("age")),
         "age: feature-added: clients do not send it; train without it, or allow it to be missing"),
        (contract(numeric("income"), numeric("purpose", reason="R02")),
         "purpose: kind-changed: categorical in the champion, numeric in the canary"),
        (contract(numeric("income", unit="EUR"), PURPOSE),
         "income: unit-changed: USD in the champion, EUR in the canary"),
        (contract(numeric("income", 1, 8), PURPOSE),
         "income: range-narrowed: the canary accepts 1 to 8, the champion 0 to 9; keep at least the champion's range"),
        (contract(numeric("income"), {**PURPOSE, "categories": ["car"]}),
         "purpose: category-removed: the canary refuses home; keep every category of the champion"),
        (contract(numeric("income", reason="R09"), PURPOSE),
         "income: reason-code-changed: R01 in the champion, R09 in the canary; reason codes must stay"),
    ],
    ids=lambda value: value.split(": ")[1] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_problem_names_feature_and_code_and_what_to_do(challenger: Document, message: str) -> None:
    assert describe(problems(read_contract(CHAMPION), read_contract(challenger))) == message


@pytest.mark.parametrize(
    ("champion", "challenger", "message"),
    [
        (numeric("income") | {"missing": True}, numeric("income"),
         "income: missing-refused: it may be missing for the champion, not for the canary; declare `missing` as "
         "`allowed`"),
        (numeric("income") | {"missing": True, "missing_values": [999, -1]},
         numeric("income") | {"missing": True, "missing_values": [-1.0]},
         "income: missing-value-removed: 999.0 means missing for the champion only; keep it under `missing_values`"),
        (PURPOSE | {"other": True}, PURPOSE,
         "purpose: other-refused: the canary refuses categories outside its list, the champion does not; declare "
         "`other` for it"),
    ],
    ids=lambda value: value.split(": ")[1] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_may_be_missing_or_other_may_stay_so(champion: Document, challenger: Document, message: str) -> None:
    assert describe(problems(*(read_contract(contract(side)) for side in (champion, challenger)))) == message


@pytest.mark.parametrize(
    ("champion", "challenger", "message"),
    [
        (numeric("income") | {"monotonic": "decreasing"}, numeric("income"),
         "income: monotonicity-dropped: decreasing in the champion, unconstrained in the canary; declare `monotonic` "
         "as `decreasing`"),
        (PURPOSE | {"monotonic": "increasing"}, PURPOSE | {"monotonic": "increasing", "categories": ["home", "car"]},
         "purpose: monotonicity-dropped: the champion's order is car, home, the canary has another; keep the "
         "champion's"),
        (PURPOSE | {"monotonic": "increasing"},
         PURPOSE | {"monotonic": "increasing", "categories": ["car"], "other": True},
         "purpose: monotonicity-dropped: home is no part of the canary's order; keep every category of the champion"),
    ],
    ids=["direction", "order", "outside"],
)  # fmt: skip
def test_what_the_champion_promises_stays_promised(champion: Document, challenger: Document, message: str) -> None:
    assert describe(problems(*(read_contract(contract(side)) for side in (champion, challenger)))) == message


def test_a_new_feature_that_may_be_missing_is_compatible_unless_clients_send_it_as_an_ignored_field() -> None:
    challenger = read_contract(contract(numeric("income"), numeric("age", reason="R03") | {"missing": True}))
    assert not problems(read_contract(contract(numeric("income"))), challenger)
    (found,) = problems(read_contract(contract(numeric("income"), ignored=("age",))), challenger)
    assert str(found) == "age: feature-added: clients may send any value for it; train without it"


def test_several_problems_are_one_message() -> None:
    found = problems(read_contract(CHAMPION), read_contract(contract(numeric("age"))))
    assert [problem.partition(": ")[0] for problem in describe(found).split("; ")[::2]] == ["age", "income", "purpose"]


@pytest.mark.parametrize(("version", "more"), [(1, []), (2, []), (3, ["bureau_score"]), (4, ["bureau_score"])])
def test_every_format_version_is_read(version: int, more: list[str]) -> None:
    document = json.loads((CONTRACTS / "golden" / f"model-contract-{version}.json").read_text())
    accepted = read_contract(document).accepted
    assert sorted(accepted) == sorted(["gender", "income", "purpose", "rate", *more])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"features": None}, "contract.features: Input should be a valid tuple"),
        ({"features": [{"kind": "numeric", "name": "income", "minimum": 0}]}, "features.0.numeric.reason_code: Field"),
        ({"features": [{"kind": "image", "name": "face"}]}, "does not match any of the expected tags"),
        ({"format_version": 5}, "contract.format_version: Input should be 1, 2, 3 or 4"),
        ({"format_version": 3}, "contract: Value error, income: `missing` is required in format version 3"),
        ({"format_version": 4, "features": [numeric("income") | {"missing": False, "missing_values": []}]},
         "contract: Value error, income: `monotonic` is required in format version 4"),
        ({"ignored": None}, "contract: Value error, `ignored` is required in format version 2"),
    ],
)  # fmt: skip
def test_a_document_that_does_not_say_which_requests_it_accepts_is_not_a_contract(
    changes: Document, fault: str
) -> None:
    with pytest.raises(ContractError) as raised:
        read_contract(CHAMPION | changes)
    assert fault in str(raised.value)


def test_an_empty_document_is_not_a_contract() -> None:
    with pytest.raises(ContractError, match=r"contract\.format_version: Field required"):
        read_contract({})
