"""What a run logs to MLflow, whatever the features are called."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.data.synthetic import generate
from trainer.pipeline import run
from trainer.settings import Settings
from trainer.tracking.runs import metric_names

AWKWARD = {
    "annual_income": "Income (EUR)",
    "debt_to_income_ratio": "debt / income",
    "credit_score": "Größe",
    "loan_amount": "金額",
    "interest_rate": "../rate//%",
    "gender": "a|b: 'c'",
    "loan_purpose": "Income [EUR]",
}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["annual_income", "x-1"], ["annual_income", "x-1"]),
        (["Loan amount (EUR)"], ["Loan_amount__EUR_"]),
        (["a/b", "../a", "a//b"], ["a_b", "___a", "a__b"]),
        (["x(", "x)"], ["x_", "x__cd0c1949"]),
        (["x(", "x_"], ["x_", "x__3e16f53f"]),
        (["金額"], ["___ddf1cb68"]),
    ],
)
def test_names_are_derived_that_mlflow_accepts(names: list[str], expected: list[str]) -> None:
    found = metric_names(names)
    assert list(found) == names
    assert list(found.values()) == expected
    for name in expected:
        _validate_metric_name(f"importance.{name}")  # type: ignore[no-untyped-call]


def test_a_name_that_comes_again_is_the_same_name() -> None:
    assert metric_names(["gender", "gender", "age"]) == {"gender": "gender", "age": "age"}


def test_a_long_name_is_cut_and_stays_unique() -> None:
    found = metric_names(["a" * 300, "a" * 301])
    assert len(set(found.values())) == 2
    assert max(map(len, found.values())) < 120


@pytest.mark.slow
def test_features_may_have_any_name(settings: Settings, tmp_path: Path) -> None:
    frame = generate(3_000, seed=2).rename(columns=AWKWARD)
    frame.to_csv(tmp_path / "loans.csv", index=False)
    document = json.loads(BUILT_IN_DECLARATION.read_text(encoding="utf-8"))
    for feature in document["features"]:
        feature["name"] = AWKWARD.get(feature["name"], feature["name"])
    (tmp_path / "features.json").write_text(json.dumps(document), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Ii]nteger column")
        result = run(replace(settings, data=str(tmp_path / "loans.csv"), features=tmp_path / "features.json"))
    logged = MlflowClient().get_run(result.run_id)
    importance = {name for name in logged.data.metrics if name.startswith("importance.")}
    assert len(importance) == len(document["features"])
    assert "importance.Income__EUR_" in importance
    assert logged.inputs is not None
    (data,) = logged.inputs.dataset_inputs
    columns = {column["name"]: column["type"] for column in json.loads(str(data.dataset.schema))["mlflow_colspec"]}
    assert columns["Größe"] == "double"
    assert columns["loan_paid_back"] == "string"
