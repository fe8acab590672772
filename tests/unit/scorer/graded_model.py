"""The contract of a model with a master scale."""

from __future__ import annotations

from typing import Any

from unit.scorer.missing_model import CONTRACT, FEATURES

GRADES = [
    {"name": "Prime", "upper_probability": 0.4, "expected_default_rate": 0.2},
    {"name": "B-", "upper_probability": 0.7, "expected_default_rate": 0.5},
    {"name": "subprime", "upper_probability": 1.0, "expected_default_rate": 0.8},
]
GRADED_CONTRACT: dict[str, Any] = {
    **CONTRACT,
    "format_version": 4,
    "features": [{**feature, "monotonic": None, "adverse_action": ""} for feature in FEATURES],
    "decision_rule": {"method": "fixed"},
    "grades": GRADES,
    "default_rate": None,
}
