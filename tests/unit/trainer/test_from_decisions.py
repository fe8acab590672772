"""Declarations for decisions: from a model's contract, and as the decisions service writes its table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from conftest import REPOSITORY
from trainer.data.dataset import Dataset
from trainer.data.decisions import declared_for, is_decisions, parameters
from trainer.data.declaration import FeatureDeclaration
from trainer.data.reject_inference import RejectInference
from trainer.data.selection import with_rejected
from trainer.export.contract import Contract
from trainer.export.declared import declaration_of

GOLDEN = REPOSITORY / "contracts/golden"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_declaration_of_a_contract_accepts_what_the_contract_accepts(number: int) -> None:
    contract = Contract.model_validate_json((GOLDEN / f"model-contract-{number}.json").read_bytes())
    declared = declaration_of(contract)
    assert declared.names == tuple(feature.name for feature in contract.features)
    assert declared.ignored == contract.ignored
    assert [grade.name for grade in declared.grades] == [grade.name for grade in contract.grades]
    for ours, theirs in zip(declared.features, contract.features, strict=True):
        given, wanted = ours.model_dump(), theirs.model_dump()
        shared = given.keys() & wanted.keys() - {"missing", "other"}
        assert {name: given[name] for name in shared} == {name: wanted[name] for name in shared}
        assert (ours.missing == "allowed") == theirs.missing
        if ours.kind == "categorical" and theirs.kind == "categorical":
            assert (ours.other is not None) == theirs.other
    assert (declared.target.default, declared.target.repaid) == (("defaulted",), ("repaid",))


def test_a_feature_named_as_the_target_keeps_its_name() -> None:
    document = json.loads((GOLDEN / "model-contract-4.json").read_text("utf-8"))
    renamed, document["ignored"] = document["features"][0], ["_outcome"]
    document["reference_applicant"]["outcome"] = document["reference_applicant"].pop(renamed["name"])
    renamed["name"] = "outcome"
    assert declaration_of(Contract.model_validate(document)).target.column == "__outcome"


def declared(**changes: object) -> FeatureDeclaration:
    rate = {"name": "rate", "kind": "numeric", "unit": "%", "minimum": 0, "maximum": 99, "description": "Rate",
            "reason_code": "R1", "parse": "percent"}  # fmt: skip
    gender = {"name": "gender", "kind": "categorical", "categories": ["F", "M"], "description": "Gender",
              "reason_code": "R2", "protected": True}  # fmt: skip
    document = {"id_column": "loan", "weight_column": "w", "date_column": "day", "date_format": "%d.%m.%Y",
                "file": {"decimal": ","}, "target": {"column": "end", "default": ["late", "gone"], "repaid": ["ok"]},
                "features": [rate, gender]}  # fmt: skip
    return FeatureDeclaration.model_validate(document | changes)


def test_how_a_file_is_written_does_not_count_for_decisions() -> None:
    found = declared_for(declared(), ["decision_id", "decided_at", "rate", "gender", "end"])
    assert (found.id_column, found.date_column, found.weight_column) == ("decision_id", "decided_at", None)
    assert (found.date_format, found.file.decimal, found.numeric[0].parse) == ("", ".", None)
    assert found.names == ("rate", "gender")


def test_protected_attributes_that_no_version_used_become_ignored_fields() -> None:
    found = declared_for(declared(), ["decision_id", "decided_at", "rate", "end"])
    assert (found.names, found.ignored) == (("rate",), ("gender",))
    # Others are missed by the validation.
    assert declared_for(declared(), ["decision_id", "decided_at", "gender", "end"]).names == ("rate", "gender")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("decisions", {"matured": "12m"}),
        ("decisions://", {"matured": "12m"}),
        ("decisions://?from=&to=&matured=", {"matured": "12m"}),
        ("decisions://?from=2025-01-01&matured=6m", {"from": "2025-01-01", "matured": "6m"}),
        ("decisions:?to=2026-01-01T00:00:00Z", {"to": "2026-01-01T00:00:00Z", "matured": "12m"}),
    ],
)
def test_a_source_names_its_query(source: str, expected: dict[str, str]) -> None:
    assert is_decisions(source)
    assert parameters(source) == expected


@pytest.mark.parametrize("source", ["decisions.csv", "data/decisions", "s3://decisions/x.csv", "synthetic"])
def test_files_may_be_named_like_it(source: str) -> None:
    assert not is_decisions(source)


def dataset(target: list[float], weight: list[float] | None = None) -> Dataset:
    rows = len(target)
    return Dataset(
        frame=pd.DataFrame({"rate": np.arange(rows, dtype=float), "end": np.array(target, dtype=np.int64)}),
        numeric=np.arange(rows, dtype=np.float32)[:, None],
        categorical=np.zeros((rows, 1), dtype=np.int64),
        target=np.array(target, dtype=np.float32),
        weight=None if weight is None else np.array(weight),
    )


@pytest.mark.parametrize("method", [RejectInference.PARCELLING, RejectInference.FUZZY])
@pytest.mark.parametrize("weight", [None, [2.0, 0.5, 0.5]])
def test_inferred_rows_are_added_behind_the_others(method: RejectInference, weight: list[float] | None) -> None:
    training, rejected = dataset([0, 1, 0], weight), dataset([0, 0])
    found = with_rejected(training, rejected, target_column="end", training_pd=np.full(3, 0.2),
                          rejected_pd=np.full(2, 0.8), method=method, factor=1.0, seed=0)  # fmt: skip
    assert found.weight is not None
    assert found.weight[:3].tolist() == (weight or [1, 1, 1])
    assert found.weight[3:].sum() == pytest.approx(2)
    assert len(found) == len(found.frame) == len(found.numeric) == len(found.categorical) == len(found.weight)
    assert (found.frame["end"].to_numpy() == found.target).all()
    assert set(found.numeric[3:, 0]) == {0, 1}


def test_without_reject_inference_training_rows_stay_as_they_are() -> None:
    training = dataset([0, 1])
    assert with_rejected(training, dataset([0]), target_column="end", training_pd=np.zeros(2), rejected_pd=np.ones(1),
                         method=RejectInference.NONE, factor=1.0, seed=0) is training  # fmt: skip
