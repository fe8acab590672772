"""Model contracts for tests, and the agreements under contracts/."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from conftest import REPOSITORY

FOLDER = REPOSITORY / "contracts"
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


def agreement(name: str) -> Any:
    """Return a JSON document under contracts/."""
    return json.loads((FOLDER / name).read_text("utf-8"))


_ADDED_BY_3 = {
    "missing", "missing_values", "training_minimum", "training_maximum", "other", "probability_limits",
}  # fmt: skip
_ADDED_BY_4 = {"monotonic", "adverse_action", "decision_rule", "grades", "default_rate"}


def as_version(document: dict[str, Any], version: int) -> dict[str, Any]:
    """Return a contract of version 2, 3 or 4 as one of an older version, without the keys that came later."""
    later = {4: _ADDED_BY_4, 3: _ADDED_BY_3, 2: {"ignored"}}
    dropped = {key for since, keys in later.items() if version < since for key in keys}
    features = [
        {name: value for name, value in feature.items() if name not in dropped} for feature in document["features"]
    ]
    kept = {name: value for name, value in document.items() if name not in dropped}
    return {**kept, "features": features, "format_version": version}


def validator(name: str) -> Draft202012Validator:
    """Return the validator of a schema under contracts/, which may refer to the others."""
    names = [file.name for file in FOLDER.glob("*.schema.json")]
    schemas: Registry[Any] = Registry().with_resources(
        [(file, Resource.from_contents(agreement(file))) for file in names]
    )
    return Draft202012Validator(agreement(f"{name}.schema.json"), registry=schemas)
