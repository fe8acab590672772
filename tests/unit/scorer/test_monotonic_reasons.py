"""Reasons of a model that promises which way it follows its features: never a value that helps the applicant."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer.app import create_app
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import Contract
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.model.reasons import Explainer, keep_signs
from scorer.settings import Settings
from unit.scorer.contracts import agreement, as_version
from unit.scorer.missing_model import CONTRACT, REFERENCE, write_model

# By column: numbers a (rises), b (falls) and c (free), then categories d (rises) and e (falls).
NAMES, DIRECTIONS = ("a", "b", "c", "d", "e"), (1, -1, 0, 1, -1)
REFERENCE_ROW = (0.0, 0.0, 0.0, 1, 1)
CATEGORIES = ["low", "middle", "high"]
MISSING, OTHER = 3, 4
WORDS = {1: "increasing", -1: "decreasing", 0: None}
DOCUMENT: dict[str, Any] = agreement("golden/model-contract-4.json") | {
    "features": [
        {"kind": "numeric", "name": name, "unit": "", "minimum": -9.0, "maximum": 9.0, "missing": True,
         "missing_values": [], "training_minimum": -9.0, "training_maximum": 9.0, "monotonic": WORDS[direction],
         "description": f"The {name}", "reason_code": name, "adverse_action": "", "protected": False}
        if name in "abc" else
        {"kind": "categorical", "name": name, "categories": CATEGORIES, "missing": True, "missing_values": [],
         "other": True, "monotonic": WORDS[direction], "description": f"The {name}", "reason_code": name,
         "adverse_action": "", "protected": False}
        for name, direction in zip(NAMES, DIRECTIONS, strict=True)
    ],
    "reference_applicant": {"a": 0.0, "b": 0.0, "c": 0.0, "d": "middle", "e": "middle"},
}  # fmt: skip
CONTRACT_4 = msgspec.convert(DOCUMENT, Contract)


def predict(numeric: FloatRows, codes: CodeRows) -> npt.NDArray[np.float32]:
    """A model that keeps its directions, has deep interactions, and has a value of its own for what is missing."""
    a, b, c = (np.nan_to_num(numeric[:, column].astype(np.float64), nan=0.0) for column in range(3))
    d, e = (np.where(codes[:, column] < MISSING, codes[:, column], 0.0) for column in range(2))
    up, down = np.tanh(a), np.tanh(-b)
    # Each factor rises with one of a, -b and d, and none is below zero; e hardly matters.
    logit = 0.1 * up + 0.1 * down + 0.05 * d - 0.02 * e + np.sin(2 * c)
    logit += (up + 1) * (down + 1) * (d + 0.3) * (np.sin(c) + 1.1)
    logit += np.isnan(numeric) @ np.array([0.7, -0.4, 0.2])
    logit += np.where(codes >= MISSING, codes - 2.4, 0.0).sum(1)
    return np.asarray(1 / (1 + np.exp(-(logit - 3))), dtype=np.float32)


def helps(column: int, value: float) -> bool:
    """Say whether a value is on the good side of the reference's; absence is on no side."""
    if np.isnan(value) or (column > 2 and value >= MISSING):
        return False
    return DIRECTIONS[column] * (value - REFERENCE_ROW[column]) < 0


numbers = st.floats(-9, 9, width=32) | st.just(float("nan")) | st.just(0.0)
codes_ = st.integers(0, OTHER)
rows = st.lists(st.tuples(numbers, numbers, numbers, codes_, codes_), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(rows)
def test_no_reason_names_a_value_that_helps_alone_or_in_a_batch(applicants: list[tuple[float, ...]]) -> None:
    explainer = Explainer(CONTRACT_4, predict)
    numeric = np.array([row[:3] for row in applicants], np.float32)
    codes = np.array([row[3:] for row in applicants], np.int64)
    together = explainer.explain(numeric, codes)
    for index, (row, explanation) in enumerate(zip(applicants, together, strict=True)):
        named = {reason.feature for reason in explainer.reasons(explanation, 5, 20.0)}
        assert not {name for column, name in enumerate(NAMES) if helps(column, row[column])} & named
        assert sum(explanation.contributions) == pytest.approx(explanation.difference, abs=1e-5)
        (alone,) = explainer.explain(numeric[index : index + 1], codes[index : index + 1])
        assert [reason.feature for reason in explainer.reasons(alone, 5, 20.0)] == [
            reason.feature for reason in explainer.reasons(explanation, 5, 20.0)
        ]
        np.testing.assert_allclose(alone.contributions, explanation.contributions, atol=1e-9)


def test_without_promised_directions_the_same_model_does_name_values_that_help() -> None:
    """Otherwise the test above would show nothing."""
    plain = msgspec.structs.replace(
        CONTRACT_4, features=tuple(msgspec.structs.replace(f, monotonic=None) for f in CONTRACT_4.features)
    )
    explainer = Explainer(plain, predict)
    rng = np.random.default_rng(0)
    numeric, codes = rng.uniform(-4, 4, (300, 3)).astype(np.float32), rng.integers(0, 3, (300, 2))
    found = 0
    for row, explanation in zip(np.hstack([numeric, codes]), explainer.explain(numeric, codes), strict=True):
        named = {reason.feature for reason in explainer.reasons(explanation, 5, 20.0)}
        found += bool({name for column, name in enumerate(NAMES) if helps(column, row[column])} & named)
    assert found > 5


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_kept_signs_bring_contributions_closer_to_any_true_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    playing = rng.random((4, 6)) < 0.8
    signs = np.where(playing, rng.integers(-1, 2, playing.shape), 0).astype(np.float64)
    true = np.where(playing, rng.normal(size=playing.shape), 0.0)
    true = np.where(signs != 0, np.abs(true) * signs, true)
    noise = np.where(playing, rng.normal(size=playing.shape), 0.0)
    noise -= np.where(playing, noise.sum(1, keepdims=True) / np.maximum(playing.sum(1, keepdims=True), 1), 0.0)
    kept = keep_signs(true + noise, signs, true.sum(1), playing)
    assert (kept * signs >= 0).all()
    assert not kept[~playing].any()
    np.testing.assert_allclose(kept.sum(1), true.sum(1), atol=1e-9)
    before, after = (np.linalg.norm(found - true, axis=1) for found in (true + noise, kept))
    assert (after <= before + 1e-9).all()


def test_contributions_that_contradict_no_sign_are_left_alone() -> None:
    given_, signs = np.array([[1.0, -2.0, 3.0]]), np.array([[1.0, -1.0, 0.0]])
    assert keep_signs(given_, signs, given_.sum(1), np.ones((1, 3), dtype=bool)) is given_


def test_where_no_contributions_fit_the_signs_count_more_than_the_sum() -> None:
    found = keep_signs(np.array([[1e-7]]), np.array([[-1.0]]), np.array([1e-7]), np.ones((1, 1), dtype=bool))
    assert found.tolist() == [[0.0]]


def test_signs_are_kept_of_many_rows_as_of_each_alone_and_in_little_memory() -> None:
    rng = np.random.default_rng(0)
    rows, features = 5_000, 50
    playing = rng.random((rows, features)) < 0.9
    signs = np.where(playing, rng.integers(-1, 2, playing.shape), 0).astype(np.float64)
    contributions = np.where(playing, rng.normal(size=playing.shape), 0.0)
    contributions[::3] = np.abs(contributions[::3]) * signs[::3]  # those are as promised
    total = contributions.sum(1)
    tracemalloc.start()
    try:
        kept = keep_signs(contributions, signs, total, playing)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A number for each row, feature and feature would be 100 MB.
    assert most < rows * features**2 * 8
    alone = [keep_signs(contributions[[n]], signs[[n]], total[[n]], playing[[n]]) for n in range(0, rows, 7)]
    np.testing.assert_array_equal(kept[::7], np.concatenate(alone))
    assert not (kept[1] == contributions[1]).all()


TEXTS = {"bureau_score": "Your credit history is too weak", "debt_ratio": "Your debts are too high for your income"}
FEATURES_4 = [
    {**feature, "monotonic": {"bureau_score": "decreasing"}.get(feature["name"]),
     "adverse_action": TEXTS.get(feature["name"], "")}
    for feature in CONTRACT["features"]
]  # fmt: skip


def client_of(folder: Path, **changes: Any) -> httpx.AsyncClient:
    model = load_model(write_model(folder, **changes), Identity("credit-risk", "1", "", {}, {}))
    app = create_app(Settings(), ModelSlot(model), Metrics())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring")


@pytest.fixture
async def client(tmp_path: Path) -> Any:
    more = {key: DOCUMENT[key] for key in ("decision_rule", "grades", "default_rate")}
    async with client_of(tmp_path, format_version=4, features=FEATURES_4, **more) as http:
        yield http


async def test_a_reason_has_the_declarations_adverse_action_text(client: httpx.AsyncClient) -> None:
    application = {**REFERENCE, "bureau_score": 520.0, "debt_ratio": 0.8, "employer": "B"}
    found = {r["feature"]: r for r in (await client.post("/v1/score?reasons=7", json=application)).json()["reasons"]}
    assert {name: reason.get("adverse_action") for name, reason in found.items()} == {**TEXTS, "employer": None}
    assert "adverse_action" not in found["employer"]


async def test_a_missing_value_has_no_text_that_speaks_of_a_value(client: httpx.AsyncClient) -> None:
    application = {**REFERENCE, "bureau_score": None, "employer": "B"}
    reasons = (await client.post("/v1/score?reasons=7", json=application)).json()["reasons"]
    texts = {reason["feature"]: reason.get("adverse_action") for reason in reasons}
    assert texts == {"bureau_score": "Bureau score was not provided", "employer": None}


async def test_four_reasons_are_given_if_the_request_does_not_say_how_many(client: httpx.AsyncClient) -> None:
    application = {
        **REFERENCE, "income": 6_000.0, "home": "rent", "bureau_score": 400.0, "debt_ratio": 0.9, "purpose": "None",
        "employer": "B",
    }  # fmt: skip
    all_of_them = (await client.post("/v1/score?reasons=7", json=application)).json()["reasons"]
    assert len(all_of_them) > 4
    for query in ("?reasons", "?reasons="):
        answer = await client.post(f"/v1/score{query}", json=application)
        assert answer.json()["reasons"] == all_of_them[:4]


async def test_a_contract_of_version_3_has_no_texts_and_no_directions(tmp_path: Path) -> None:
    async with client_of(tmp_path) as http:
        answer = (await http.post("/v1/score?reasons=7", json={**REFERENCE, "bureau_score": 520.0})).json()
    assert answer["reasons"]
    assert not any("adverse_action" in reason for reason in answer["reasons"])


def test_version_3_of_the_golden_contract_is_version_4_without_what_came_later() -> None:
    older = as_version(agreement("golden/model-contract-4.json"), 3)
    assert older == json.loads(json.dumps(agreement("golden/model-contract-3.json")))
