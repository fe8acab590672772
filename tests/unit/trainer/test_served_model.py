"""The module that is shipped with every version: rows of a table to the inputs of the graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import REPOSITORY
from trainer.data.inputs import CategoryInput, Inputs
from trainer.export.onnx_graph import export_onnx
from trainer.export.served.credit_risk_model import CreditRiskModel
from trainer.learning.network import Architecture, CalibratedNetwork, Encoding, RiskNetwork

GOLDEN = REPOSITORY / "contracts/golden"
INPUTS = Inputs(missing=(False, False, True), categories=(CategoryInput(3, missing=True, other=True),))
ROW = {"income": 43_500.0, "rate": 12.0, "bureau_score": 680.0, "purpose": "Car"}


@pytest.fixture(scope="module")
def network() -> CalibratedNetwork:
    torch.manual_seed(0)
    rows = np.random.default_rng(0).uniform([6e3, 0, 373], [4e5, 22.5, 850], (200, 3)).astype(np.float32)
    untrained = RiskNetwork(Encoding.fit(rows, INPUTS, bins=4), Architecture(2, (8,), 4, 0.0))
    return CalibratedNetwork(untrained, slope=1.0, intercept=0.0, floor=0.001, ceiling=0.985).eval()


def served(network: CalibratedNetwork, folder: Path, golden: str) -> CreditRiskModel:
    export_onnx(network, folder / "model.onnx")
    (folder / "contract.json").write_bytes((GOLDEN / golden).read_bytes())
    return CreditRiskModel(folder)


@pytest.fixture
def model(network: CalibratedNetwork, tmp_path: Path) -> CreditRiskModel:
    return served(network, tmp_path, "model-contract-4.json")


def expected(network: CalibratedNetwork, score: float, code: int) -> float:
    with torch.no_grad():
        numbers = torch.tensor([[ROW["income"], ROW["rate"], score]], dtype=torch.float32)
        return float(network(numbers, torch.tensor([[code]])))


@pytest.mark.parametrize("score", [None, float("nan"), pd.NA, 999, -1.0])
def test_every_way_to_say_missing_is_the_missing_value_of_a_number(
    score: object, model: CreditRiskModel, network: CalibratedNetwork
) -> None:
    frame = pd.DataFrame([{**ROW, "bureau_score": score}, {**ROW, "bureau_score": 680.0}])
    first, second = model.predict(frame)
    assert first == pytest.approx(expected(network, float("nan"), 0), abs=1e-6)
    assert second == pytest.approx(expected(network, 680.0, 0), abs=1e-6)


@pytest.mark.parametrize(
    ("purpose", "code"),
    [("Home", 1), (None, 3), (float("nan"), 3), ("Unknown", 3), ("n/a", 3), ("Yacht", 4), ("nan", 4)],
)
def test_a_category_is_missing_or_other_as_the_contract_says(
    purpose: object, code: int, model: CreditRiskModel, network: CalibratedNetwork
) -> None:
    (answer,) = model.predict(pd.DataFrame([{**ROW, "purpose": purpose}]))
    assert answer == pytest.approx(expected(network, 680.0, code), abs=1e-6)


@pytest.mark.parametrize(
    ("categories", "value", "code"),
    [
        (["1", "2", "3"], 2, 1),
        (["1", "2", "3"], 2.0, 1),
        (["1", "2", "3"], "2.00", 1),
        (["01", "2", "3"], "1", 4),
        (["true", "false", "3"], False, 1),
        (["True", "False", "3"], "false", 1),
        (["1", "2", "3"], True, 4),
        (["1", "2", "3"], 9.0, 3),
    ],
)
def test_a_number_or_a_boolean_is_the_category_of_its_text(
    categories: list[str], value: object, code: int, model: CreditRiskModel, network: CalibratedNetwork
) -> None:
    model.contract["features"][3] |= {"categories": categories, "missing_values": ["9"]}
    (answer,) = model.predict(pd.DataFrame([{**ROW, "purpose": value}]))
    assert answer == pytest.approx(expected(network, 680.0, code), abs=1e-6)


def test_a_column_that_may_be_missing_may_be_absent(model: CreditRiskModel, network: CalibratedNetwork) -> None:
    (answer,) = model.predict(pd.DataFrame([{"income": 43_500.0, "rate": 12.0}]))
    assert answer == pytest.approx(expected(network, float("nan"), 3), abs=1e-6)
    with pytest.raises(ValueError, match="missing columns: income"):
        model.predict(pd.DataFrame([ROW]).drop(columns="income"))
    assert not model.accepts(pd.DataFrame([ROW]).drop(columns="income")).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"income": None}, "column income: missing or infinite values"),
        ({"income": float("inf")}, "column income: infinite values"),
        ({"bureau_score": float("-inf")}, "column bureau_score: infinite values"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused_and_can_be_found(
    change: dict[str, object], message: str, model: CreditRiskModel
) -> None:
    frame = pd.DataFrame([ROW, {**ROW, **change}, ROW])
    with pytest.raises(ValueError, match=message):
        model.predict(frame)
    assert model.accepts(frame).tolist() == [True, False, True]


def test_a_contract_of_an_older_format_refuses_missing_and_other_values(
    network: CalibratedNetwork, tmp_path: Path
) -> None:
    older = served(network, tmp_path, "model-contract-2.json")
    assert json.loads((tmp_path / "contract.json").read_text("utf-8"))["format_version"] == 2
    frame = pd.DataFrame([ROW, {**ROW, "purpose": None}, {**ROW, "purpose": "Yacht"}, {**ROW, "rate": None}])
    assert older.accepts(frame).tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="column rate: missing"):
        older.predict(frame)
