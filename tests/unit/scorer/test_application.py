"""Applications: what is scored, and what is refused with every problem named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.applications.decoder import ApplicationDecoder, encode
from scorer.contract import Contract, ContractError, read_contract
from scorer.problems import Problem

DOCUMENT: dict[str, Any] = {
    "format_version": 1,
    "model_name": "m",
    "features": [
        {"kind": "numeric", "name": "income", "unit": "USD", "minimum": 0.0, "maximum": 100.0, "description": "",
         "reason_code": "R1", "protected": False},
        {"kind": "categorical", "name": "home", "categories": ["own", "rent"], "description": "", "reason_code": "R2",
         "protected": False},
    ],
    "reference_applicant": {"income": 50.0, "home": "own"},
    "score_histogram": {"edges": [0.0, 0.5, 1.0], "counts": [3, 1]},
    "decision_threshold": 0.5,
    "training_data_sha256": "0" * 64,
}  # fmt: skip
CONTRACT = msgspec.convert(DOCUMENT, Contract)
GOOD = {"income": 12.5, "home": "rent"}


def problems_of(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        ApplicationDecoder(CONTRACT).decode(body)
    return caught.value


def refusal_of(body: bytes) -> Problem | None:
    try:
        ApplicationDecoder(CONTRACT).decode(body)
    except Problem as problem:
        return problem
    return None


def test_a_good_application_becomes_one_row_in_the_contracts_order() -> None:
    numeric, codes = ApplicationDecoder(CONTRACT).decode(json.dumps(GOOD).encode())
    assert numeric.dtype == np.float32
    assert numeric.tolist() == [[12.5]]
    assert codes.dtype == np.int64
    assert codes.tolist() == [[1]]


def test_an_applicants_id_may_come_along() -> None:
    ApplicationDecoder(CONTRACT).decode(json.dumps({**GOOD, "applicant_id": "A-1"}).encode())


@pytest.mark.parametrize("edge", [0, 0.0, 100, 100.0])
def test_both_ends_of_the_range_are_allowed(edge: float) -> None:
    ApplicationDecoder(CONTRACT).decode(json.dumps({**GOOD, "income": edge}).encode())


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"income": None}, "income", "not a number"),
        ({"income": "12"}, "income", "not a number"),
        ({"income": True}, "income", "not a number"),
        ({"income": -0.1}, "income", "out of range"),
        ({"income": 1e308}, "income", "out of range"),
        ({"home": "tent"}, "home", "'tent'"),
        ({"home": 1}, "home", "not a string"),
        ({"home": ["own"]}, "home", "not a string"),
        ({"applicant_id": 7}, "applicant_id", "not a string"),
        ({"colour": "red"}, "colour", "not a field"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(change: dict[str, Any], field: str, problem: str) -> None:
    answer = problems_of(json.dumps({**GOOD, **change}).encode())
    assert answer.status == 422
    (found,) = answer.errors
    assert found.field == field
    assert problem in found.problem
    assert found.allowed


def test_all_problems_are_reported_together() -> None:
    answer = problems_of(b'{"home": "tent", "colour": 1}')
    assert [error.field for error in answer.errors] == ["income", "home", "colour"]
    assert "from 0 to 100 USD" in answer.errors[0].allowed
    assert "own, rent" in answer.errors[1].allowed


@pytest.mark.parametrize("body", [b"", b"{", b'{"income": NaN, "home": "own"}', b"\xff\xfe", b'{"income": 1,}'])
def test_what_is_no_json_is_a_bad_request(body: bytes) -> None:
    assert problems_of(body).status == 400


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"[[1]]"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    assert problems_of(body).status == 422


def test_deep_nesting_is_refused_and_does_not_crash() -> None:
    assert problems_of(b"[" * 100_000).status == 400


@given(st.binary(max_size=200))
def test_no_body_whatever_raises_anything_but_a_problem(body: bytes) -> None:
    refused = refusal_of(body)
    assert refused is None or refused.status in {400, 422}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["income", "home", "applicant_id", "x"]), json_values))
def test_every_refused_object_says_which_fields_are_wrong(document: dict[str, Any]) -> None:
    refused = refusal_of(json.dumps(document).encode())
    assert refused is None or refused.status == 400 or refused.errors


def test_the_reference_applicant_of_a_contract_can_be_encoded() -> None:
    numeric, codes = encode(CONTRACT, CONTRACT.reference_applicant)
    assert (numeric.tolist(), codes.tolist()) == ([[50.0]], [[0]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 2}, "Invalid enum value 2"),
        ({"colour": "red"}, "unknown field"),
        ({"features": []}, "length >= 1"),
        ({"features": [DOCUMENT["features"][0]] * 2}, "income stands twice"),
        ({"reference_applicant": {"income": 1.0}}, "reference_applicant"),
        ({"decision_threshold": 1.0}, "decision_threshold"),
        ({"score_histogram": {"edges": [0.0, 0.0, 1.0], "counts": [1, 1]}}, "do not rise"),
        ({"score_histogram": {"edges": [0.0, 1.0], "counts": [1, 1]}}, "one edge more"),
    ],
)
def test_a_contract_that_cannot_be_served_is_refused_with_the_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "contract.json"
    file.write_text(json.dumps({**DOCUMENT, **change}))
    with pytest.raises(ContractError, match=reason):
        read_contract(file)
