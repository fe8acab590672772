"""The training reference: as its schema says, and as the decision log reads it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from conftest import REPOSITORY
from decisions.drift.bins import Bins
from decisions.drift.contract import read_drift_contract
from decisions.drift.reference import NumericReference, read_reference
from decisions.errors import DamagedError
from trainer.data.dataset import Dataset
from trainer.export.contract import Contract
from trainer.export.reference import REFERENCE_FILE, write_reference

CONTRACTS = REPOSITORY / "contracts"
CONTRACT = (CONTRACTS / "golden/model-contract-4.json").read_bytes()
SCHEMA = json.loads((CONTRACTS / "training-reference.schema.json").read_text("utf-8"))


def dataset(weight: np.ndarray | None = None) -> Dataset:
    """Return a hundred rows: incomes of 1 to 100, one rate for most, a fifth without a bureau score."""
    rows = np.arange(100)
    numeric = np.stack([rows + 1, np.where(rows < 70, 0.3, rows), np.where(rows < 20, np.nan, rows)], 1)
    target = np.zeros(100, np.float32)
    return Dataset(pd.DataFrame({"row": rows}), numeric.astype(np.float32), (rows % 5)[:, None], target, weight)


def test_it_is_what_the_schema_and_the_reader_take(tmp_path: Path) -> None:
    write_reference(Contract.model_validate_json(CONTRACT), dataset(), tmp_path)
    written = (tmp_path / REFERENCE_FILE).read_bytes()
    jsonschema.validate(json.loads(written), SCHEMA)
    contract = read_drift_contract(CONTRACT)
    reference = read_reference(written, contract)
    bins = Bins.of_training(contract, reference)
    for of in bins.features:
        assert of.of_reference(reference.features[of.feature.name]).sum() == 100
    income, rate = (reference.features[name] for name in ("income", "rate"))
    assert isinstance(income, NumericReference)
    assert isinstance(rate, NumericReference)
    assert (income.edges, income.counts) == (tuple(range(10, 100, 10)), (9, *[10] * 8, 11))
    # An edge is the value as records write it, and not the nearest float32 of it: 0.30000001192092896.
    assert rate.edges == (0.3, 79.0, 89.0)
    assert rate.counts == (0, 79, 10, 11)
    assert (reference.features["bureau_score"].missing, reference.features["purpose"].missing) == (20, 20)


def test_rows_count_by_their_weights(tmp_path: Path) -> None:
    write_reference(Contract.model_validate_json(CONTRACT), dataset(np.where(np.arange(100) < 50, 3.0, 1.0)), tmp_path)
    document = json.loads((tmp_path / REFERENCE_FILE).read_text())
    assert sum(document["features"]["income"]["counts"]) == pytest.approx(100)
    assert document["features"]["bureau_score"]["missing"] == pytest.approx(30)


def test_the_golden_one_is_valid_and_read() -> None:
    golden = (CONTRACTS / "golden/training-reference.json").read_bytes()
    jsonschema.validate(json.loads(golden), SCHEMA)
    read_reference(golden, read_drift_contract(CONTRACT))


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("income", {"counts": [1, 2]}, "counts must be one more than edges"),
        ("income", {"edges": [5, 5]}, "edges must rise"),
        ("income", {"counts": [0, 0, 0]}, "counts must not be negative, and not all 0"),
        ("purpose", {"counts": {"Car": 1}}, "its categories are not those of the contract"),
        ("purpose", None, "it is not there"),
    ],
)
def test_one_that_does_not_fit_the_contract_is_refused(
    name: str, change: dict[str, object] | None, problem: str
) -> None:
    document = json.loads((CONTRACTS / "golden/training-reference.json").read_text("utf-8"))
    if change is None:
        del document["features"][name]
    else:
        document["features"][name] |= change
    with pytest.raises(DamagedError, match=problem):
        read_reference(json.dumps(document).encode(), read_drift_contract(CONTRACT))


def test_one_of_other_data_is_refused() -> None:
    document = json.loads((CONTRACTS / "golden/training-reference.json").read_text("utf-8"))
    document["training_data_sha256"] = "f" * 64
    with pytest.raises(DamagedError, match="other data"):
        read_reference(json.dumps(document).encode(), read_drift_contract(CONTRACT))
