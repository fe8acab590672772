"""Declared directions and texts from training to serving: scores keep the directions, no reason names what helps."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from contract.trained import train_version
from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration
from trainer.data.synthetic import generate

pytestmark = pytest.mark.slow
# Probabilities are float32.
TOLERANCE = 1e-6
DECLARED: dict[str, dict[str, Any]] = {
    "annual_income": {"monotonic": "decreasing", "adverse_action": "Your income is too low for the amount requested"},
    "debt_to_income_ratio": {"monotonic": "increasing", "adverse_action": "Your debts are too high for your income"},
    "credit_score": {"monotonic": "decreasing", "missing": "allowed", "adverse_action": "Your credit history is weak"},
    "grade_subgrade": {"monotonic": "increasing"},
}
TEXTS = {feature.name: feature.adverse_action for feature in load_declaration(BUILT_IN_DECLARATION).features} | {
    name: declared["adverse_action"] for name, declared in DECLARED.items() if "adverse_action" in declared
}
SIGNS = {"increasing": 1, "decreasing": -1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A version that keeps four directions, of loans of which some lack a credit score."""
    folder = tmp_path_factory.mktemp("monotonic")
    loans = generate(3_000, seed=6)
    loans["credit_score"] = loans["credit_score"].mask(np.random.default_rng(1).random(len(loans)) < 0.15)
    files = train_version(folder, loans, DECLARED)
    return load_model(files, Identity("credit-risk", "7", "run", {}, {}))


@pytest.fixture
async def client(model: Model) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(), ModelSlot(model), Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        yield http


def applicants(model: Model, count: int) -> list[dict[str, Any]]:
    names = [feature.name for feature in model.contract.features]
    found = json.loads(generate(count, seed=9)[names].to_json(orient="records"))
    for row in found[::5]:
        row["credit_score"] = None
    return list(found)


def order(model: Model, name: str) -> list[Any]:
    """Return values of a feature from low to high, over its whole range."""
    numbers = {feature.name: feature for feature in model.contract.numeric}
    if name in numbers:
        return [float(x) for x in np.linspace(numbers[name].minimum, numbers[name].maximum, 40)]
    return next(list(feature.categories) for feature in model.contract.categorical if feature.name == name)


def test_the_contract_has_what_was_declared(model: Model) -> None:
    for feature in model.contract.features:
        assert feature.monotonic == DECLARED.get(feature.name, {}).get("monotonic")
        assert feature.adverse_action == TEXTS[feature.name]


async def test_raising_a_value_never_moves_a_served_score_the_wrong_way(
    model: Model, client: httpx.AsyncClient
) -> None:
    for applicant in applicants(model, 12):
        for name, declared in DECLARED.items():
            rows = [{**applicant, name: value} for value in order(model, name)]
            answer = (await client.post("/v1/score/batch", json=rows)).json()
            found = [row["probability_of_default"] for row in answer["results"]]
            assert (np.diff(found) * SIGNS[declared["monotonic"]] >= -TOLERANCE).all()
            single = (await client.post("/v1/score", json=rows[0])).json()["probability_of_default"]
            assert single == pytest.approx(found[0], abs=TOLERANCE)


async def test_no_reason_names_a_value_that_helps_and_each_has_its_declared_text(
    model: Model, client: httpx.AsyncClient
) -> None:
    usual, named = model.contract.reference_applicant, set()
    for applicant in applicants(model, 60):
        answer = (await client.post("/v1/score?reasons=11", json=applicant)).json()
        for reason in answer["reasons"]:
            name = reason["feature"]
            if reason.get("missing"):
                assert reason["adverse_action"] == "Credit bureau score was not provided"
                continue
            assert reason.get("adverse_action", "") == TEXTS[name]
            if name in DECLARED:
                named.add(name)
                values = order(model, name)
                place = values.index if isinstance(values[0], str) else float
                step = place(applicant[name]) - place(usual[name])
                assert step * SIGNS[DECLARED[name]["monotonic"]] > 0
        assert sum(entry["contribution"] for entry in answer["audit"]["contributions"]) == pytest.approx(
            answer["audit"]["log_odds_difference"], abs=1e-5
        )
    assert named == set(DECLARED)
