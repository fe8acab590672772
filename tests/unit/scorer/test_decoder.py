"""Decoding applications: what becomes a row, and what is refused with every problem named."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.applications.decoder import ApplicationDecoder
from scorer.applications.features import encode
from scorer.contract import Contract
from scorer.problems import Problem
from unit.scorer.contracts import DOCUMENT

CONTRACT = msgspec.convert(DOCUMENT, Contract)
GOOD = {"income": 12.5, "home": "rent"}


def problems_of(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        ApplicationDecoder(CONTRACT).decode(body)
    return caught.value


def values_of(document: dict[str, Any], contract: Contract = CONTRACT) -> tuple[list[Any], list[Any]]:
    """Return a decoded application's numbers and codes."""
    numeric, codes = ApplicationDecoder(contract).decode(json.dumps(document).encode())
    return numeric.tolist(), codes.tolist()


def refusal_of(body: bytes) -> Problem | None:
    try:
        ApplicationDecoder(CONTRACT).decode(body)
    except Problem as problem:
        return problem
    return None


def test_a_valid_application_becomes_one_row_in_the_contracts_order() -> None:
    numeric, codes = ApplicationDecoder(CONTRACT).decode(json.dumps(GOOD).encode())
    assert numeric.dtype == np.float32
    assert numeric.tolist() == [[12.5]]
    assert codes.dtype == np.int64
    assert codes.tolist() == [[1]]


@pytest.mark.parametrize("applicant", ["A-1", None])
def test_an_applicant_id_is_accepted_and_is_not_part_of_the_row(applicant: str | None) -> None:
    assert values_of({**GOOD, "applicant_id": applicant}) == values_of(GOOD)


@pytest.mark.parametrize("edge", [0, 0.0, 100, 100.0])
def test_both_ends_of_the_range_are_allowed(edge: float) -> None:
    assert values_of({**GOOD, "income": edge}) == ([[edge]], [[1]])


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
def test_an_invalid_field_is_named_with_what_is_allowed(change: dict[str, Any], field: str, problem: str) -> None:
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
def test_a_body_that_is_not_json_is_a_bad_request(body: bytes) -> None:
    assert problems_of(body).status == 400


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"[[1]]"])
def test_json_that_is_not_an_object_is_refused(body: bytes) -> None:
    assert problems_of(body).status == 422


def test_deep_nesting_is_refused_without_a_crash() -> None:
    assert problems_of(b"[" * 100_000).status == 400


@given(st.binary(max_size=200))
def test_any_body_is_scored_or_refused_with_a_problem(body: bytes) -> None:
    refused = refusal_of(body)
    assert refused is None or refused.status in {400, 422}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["income", "home", "applicant_id", "x"]), json_values))
def test_every_refused_object_names_its_invalid_fields(document: dict[str, Any]) -> None:
    refused = refusal_of(json.dumps(document).encode())
    assert refused is None or refused.status == 400 or refused.errors


def test_the_reference_applicant_of_a_contract_can_be_encoded() -> None:
    numeric, codes = encode(CONTRACT, CONTRACT.reference_applicant)
    assert (numeric.tolist(), codes.tolist()) == ([[50.0]], [[0]])


@pytest.mark.parametrize("change", [{"income": 101.0}, {"home": "tent"}, {"income": None}])
def test_an_applicant_who_does_not_fit_the_contract_cannot_be_encoded(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} is .*; allowed: "):
        encode(CONTRACT, {**CONTRACT.reference_applicant, **change})


IGNORING = msgspec.structs.replace(CONTRACT, ignored=("gender", "marital status"))
ANY_JSON = [1, "Male", None, True, [], {}, {"nested": {"keys": [1, {"a": ":"}]}}, [[1]], 1e300, "a:b", "1" * 5000]


@pytest.mark.parametrize("value", ANY_JSON, ids=lambda value: repr(value)[:20])
def test_an_ignored_field_is_accepted_with_any_value_and_discarded(value: Any) -> None:
    assert values_of({**GOOD, "gender": value, "marital status": value}, IGNORING) == values_of(GOOD)
    assert values_of({**GOOD, "applicant_id": "A-1", "gender": value}, IGNORING) == values_of(GOOD)


def test_a_number_that_no_float_can_hold_is_accepted_in_an_ignored_field() -> None:
    body = json.dumps(GOOD)[:-1] + ', "gender": 1e999}'
    assert ApplicationDecoder(IGNORING).decode(body.encode())[0].tolist() == [[12.5]]


def test_beside_an_ignored_field_unknown_fields_are_still_refused_and_only_features_are_named_as_allowed() -> None:
    with pytest.raises(Problem) as caught:
        ApplicationDecoder(IGNORING).decode(json.dumps({**GOOD, "gender": 1, "colour": 1}).encode())
    (error,) = caught.value.errors
    assert (error.field, error.allowed) == ("colour", "income, home")


@pytest.mark.parametrize(
    "again", ['"gender": 1, "gender": 2', '"gender": {"a": 1, "a": 2}', '"income": 1, "gender": 1']
)
def test_a_key_that_appears_twice_is_refused_in_ignored_fields_too(again: str) -> None:
    with pytest.raises(Problem, match="appears twice"):
        ApplicationDecoder(IGNORING).decode(f"{json.dumps(GOOD)[:-1]}, {again}}}".encode())


@pytest.mark.parametrize("value", ["nul", "[" * 100_000, "NaN", "'x'"])
def test_an_ignored_field_must_be_json(value: str) -> None:
    with pytest.raises(Problem) as caught:
        ApplicationDecoder(IGNORING).decode(f'{json.dumps(GOOD)[:-1]}, "gender": {value}}}'.encode())
    assert caught.value.status == 400


def test_names_need_not_be_python_identifiers() -> None:
    number, word = CONTRACT.features
    contract = msgspec.structs.replace(
        CONTRACT, features=(msgspec.structs.replace(number, name="monthly income"), word), ignored=("class", "1-2")
    )
    assert values_of({"monthly income": 3, "home": "own", "class": 1, "1-2": 2}, contract) == ([[3.0]], [[0]])
