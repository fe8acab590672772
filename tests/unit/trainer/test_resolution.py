"""What a declaration leaves to the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainer.data.dataset import encode, protected_groups
from trainer.data.declaration import FeatureDeclaration
from trainer.data.resolution import missing_shares, other_shares, resolve
from trainer.export.contract import feature_contracts, reference_applicant

SCORE = {"name": "score", "kind": "numeric", "unit": "points", "minimum": 300, "maximum": 850, "description": "",
         "reason_code": "R1"}  # fmt: skip
TOWN = {"name": "town", "kind": "categorical", "categories": ["Ulm", "Bonn"], "description": "", "reason_code": "R2"}


def declared(**changes: dict[str, Any]) -> FeatureDeclaration:
    features = [{**feature, **changes.get(str(feature["name"]), {})} for feature in (SCORE, TOWN)]
    return FeatureDeclaration.model_validate(
        {"target": {"column": "paid", "default": 0, "repaid": 1}, "features": features}
    )


def table(score: list[float | None], town: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame({"score": pd.Series(score, dtype="float64"), "town": town, "paid": [0] * len(score)})


def resolved(frame: pd.DataFrame, **changes: dict[str, Any]) -> FeatureDeclaration:
    return resolve(declared(**changes), frame, np.ones(len(frame), dtype=bool))


@pytest.mark.parametrize(
    ("score", "change", "allowed"),
    [
        ([600, 700], {}, False),
        ([600, None], {}, True),
        ([600, 700], {"missing": "allowed"}, True),
        ([600, 700], {"missing_values": [999]}, True),
        ([600, 700], {"missing": "refused"}, False),
    ],
    ids=["complete", "with a missing value", "allowed", "with values that mean missing", "refused"],
)
def test_a_value_may_be_missing_if_declared_or_if_it_is_missing_in_the_data(
    score: list[float | None], change: dict[str, Any], *, allowed: bool
) -> None:
    declaration = resolved(table(score, ["Ulm", "Bonn"]), score=change)
    assert declaration.inputs.missing == (allowed,)
    assert not declaration.inputs.categories[0].missing


def test_a_missing_value_of_a_test_row_counts_too() -> None:
    frame = table([600, None], ["Ulm", None])
    declaration = resolve(declared(), frame, np.array([True, False]))
    assert declaration.inputs.missing == (True,)
    assert declaration.inputs.categories[0].missing


TOWNS = ["Ulm"] * 30 + ["Bonn"] * 5 + ["Kiel"] * 25 + ["Jena"]


@pytest.mark.parametrize(
    ("change", "categories"),
    [
        ({}, ("Ulm", "Bonn")),
        ({"other": True}, ("Ulm",)),
        ({"other": {"minimum_rows": 5}}, ("Ulm", "Bonn")),
        ({"other": {"minimum_rows": 1}, "categories": []}, ("Bonn", "Jena", "Kiel", "Ulm")),
        ({"other": True, "categories": []}, ("Kiel", "Ulm")),
        ({"other": {"minimum_rows": 1, "minimum_share": 0.45}, "categories": []}, ("Ulm",)),
        ({"other": {"minimum_rows": 1_000}}, ("Ulm",)),
        ({"other": {"minimum_rows": 1_000}, "categories": []}, ("Ulm",)),
    ],
)
def test_rare_categories_become_other_where_that_is_declared(
    change: dict[str, Any], categories: tuple[str, ...]
) -> None:
    assert resolved(table([600.0] * len(TOWNS), [*TOWNS]), town=change).categorical[0].categories == categories


def test_only_training_rows_make_a_category_common() -> None:
    frame = table([600.0] * len(TOWNS), [*TOWNS])
    declaration = resolve(declared(town={"other": True, "categories": []}), frame, np.arange(len(frame)) < 40)
    assert declaration.categorical[0].categories == ("Ulm",)


def test_missing_and_other_have_codes_of_their_own() -> None:
    frame = table([600, None, 700, 650], ["Bonn", None, "Kiel", "Ulm"])
    declaration = resolved(frame, town={"other": {"minimum_rows": 1}})
    data = encode(frame, declaration)
    assert data.categorical[:, 0].tolist() == [1, 2, 3, 0]
    assert np.isnan(data.numeric[:, 0]).tolist() == [False, True, False, False]
    assert missing_shares(declaration, frame) == {"score": 0.25, "town": 0.25}
    assert other_shares(declaration, frame) == {"town": 0.25}


def test_the_contract_says_what_may_be_missing_and_what_was_seen() -> None:
    frame = table([600, None, 700, 650], ["Bonn", None, "Kiel", "Ulm"])
    declaration = resolved(frame, score={"missing_values": [999]}, town={"other": {"minimum_rows": 1}})
    score, town = (feature.model_dump() for feature in feature_contracts(declaration, frame))
    assert {"missing": True, "missing_values": (999,), "training_minimum": 600, "training_maximum": 700}.items() <= (
        score.items()
    )
    assert {"missing": True, "missing_values": (), "other": True, "categories": ("Ulm", "Bonn")}.items() <= town.items()


def test_the_reference_applicant_is_never_missing_and_never_other() -> None:
    frame = table([600, None, None, None], [None, None, "Kiel", "Kiel"])
    frame.loc[0, "town"] = "Ulm"
    declaration = resolved(frame, town={"other": {"minimum_rows": 1}})
    assert reference_applicant(frame, declaration) == {"score": 600, "town": "Ulm"}


def test_missing_protected_attributes_are_a_group_of_their_own() -> None:
    frame = table([600, None, 700, 650], ["Bonn", None, "Ulm", "Ulm"])
    protected = {"protected": True}
    groups = protected_groups(frame, resolved(frame, score=protected, town=protected))
    assert groups["town"].tolist() == ["Bonn", "missing", "Ulm", "Ulm"]
    assert groups["score"].tolist()[1] == "missing"
    assert "nan" not in "".join(groups["score"])
