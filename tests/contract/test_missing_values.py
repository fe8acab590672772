"""Missing values from training to serving: the trained model's number for them by every protocol is that of MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

from contract.trained import train_version
from scorer.app import create_app
from scorer.applications.missing import CSV_MISSING
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from trainer.data import cells
from trainer.data.synthetic import generate
from unit.scorer.protocol_forms import Applicant, first_row, forms_of, send

pytestmark = pytest.mark.slow
MISSING: dict[str, dict[str, Any]] = {
    "credit_score": {"missing": "allowed", "missing_values": [999.0, -1.0]},
    "annual_income": {"missing": "allowed"},
    "loan_purpose": {"missing": "allowed", "missing_values": ["unknown"]},
}
CASES: dict[str, Applicant] = {
    "complete": {},
    "missing number": {"credit_score": None},
    "missing category": {"loan_purpose": None},
    "both and one more": {"credit_score": None, "loan_purpose": None, "annual_income": None},
    "sentinels": {"credit_score": 999.0, "loan_purpose": "unknown"},
    "outside training": {"debt_to_income_ratio": 1.0, "annual_income": 9_000_000.0},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version trained on loans of which some lack a credit score, an income or a purpose."""
    folder = tmp_path_factory.mktemp("missing")
    loans, random = generate(3_000, seed=6), np.random.default_rng(1)
    for name in MISSING:
        loans[name] = loans[name].mask(random.random(len(loans)) < 0.15)
    return train_version(folder, loans, MISSING)


@pytest.fixture(scope="module")
def model(files: Path) -> Model:
    return load_model(files, Identity("credit-risk", "7", "run", {}, {}))


def test_training_says_in_the_contract_what_may_be_missing(model: Model) -> None:
    assert {feature.name for feature in model.contract.features if feature.missing} == set(MISSING)
    assert model.contract.format_version == 4


async def test_every_protocol_gets_what_mlflow_predicts(model: Model, files: Path) -> None:
    app = create_app(Settings(), ModelSlot(model), Metrics())
    usual: Applicant = dict(model.contract.reference_applicant)
    forms = forms_of([feature.name for feature in model.contract.numeric], usual)
    predict = mlflow.pyfunc.load_model(str(files)).predict
    found: dict[str, float] = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as client:
        for name, sent in CASES.items():
            row = {**usual, **sent}
            # A number that means missing is known to the contract, not to MLflow's flavor.
            plain = {**row, **({"credit_score": None, "loan_purpose": None} if name == "sentinels" else {})}
            expected = float(np.ravel(predict(pd.DataFrame([plain])))[0])
            found[name] = expected
            for form, request in forms.items():
                answer = first_row(await send(client, request(row)))
                assert answer["probability_of_default"] == pytest.approx(expected, abs=1e-6), (name, form)
                said = {warning["field"] for warning in answer.get("warnings", [])}
                if "warnings" in answer:
                    assert said == ({"debt_to_income_ratio", "annual_income"} if name == "outside training" else set())
    assert len({round(probability, 6) for name, probability in found.items() if name != "sentinels"}) == 5


def test_training_and_service_take_the_same_text_of_csv_for_missing() -> None:
    assert frozenset(cells.MISSING) == CSV_MISSING
