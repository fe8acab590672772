"""The spec: what is allowed, and what the error says if it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from promoter.api import rules
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import DECISION_LOG, MetricType
from promoter.decision.plan import plan

ROOT = Path(__file__).parents[3]
EXAMPLES = ["follow-alias", "pin-version", "cautious", "blue-green", "experiment"]
MODEL = {"name": "credit-risk"}
QUERY = {"type": "Query", "name": "q", "query": "up", "limit": 1}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_manifests_are_valid(name: str) -> None:
    document = yaml.safe_load((ROOT / "manifests" / f"{name}.yaml").read_text())
    spec = parse_spec(document["spec"])
    # No field is misspelled, and thereby ignored.
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]
    assert plan(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "alias": "a", "version": "1"}}, rules.ONE_POINTER.message),
        ({"steps": [{"weight": 5, "duration": "1m", "pause": {}}]}, rules.WEIGHT_OR_PAUSE.message),
        ({"steps": [{"weight": 5}]}, rules.WEIGHT_WITH_DURATION.message),
        ({"steps": [{"pause": {}}]}, rules.SOME_WEIGHT.message),
        ({"steps": [{"weight": 9, "duration": "1m"}, {"weight": 5, "duration": "1m"}]},
         rules.WEIGHTS_DO_NOT_DECREASE.message),
        ({"analysis": {"metrics": [QUERY]}}, rules.COMPLETE_QUERIES.message),
        ({"analysis": {"metrics": [{"type": "ShadowDisagreement"}]}}, rules.SHADOW_FOR_DISAGREEMENT.message),
        ({"steps": [{"weight": 101, "duration": "1m"}]}, "less than or equal to 100"),
        ({"shadow": {"duration": "soon"}}, "spec.shadow.duration: String should match pattern"),
        ({"model": {}}, "spec.model.name: Field required"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_and_what_is_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"model": MODEL} | changes)
    assert message in str(raised.value)


def test_the_target_cannot_be_changed() -> None:
    with pytest.raises(InvalidSpecError, match="targetRef: cannot be changed"):
        parse_spec({"model": MODEL, "targetRef": {"name": "other"}}, target="scoring")


def test_the_default_pointer_is_the_alias_production() -> None:
    assert parse_spec({"model": MODEL}).model.pointer == ("alias", "production")


def test_the_default_metrics_are_all_that_need_no_configuration() -> None:
    plain = {metric.type for metric in parse_spec({"model": MODEL}).metrics}
    configured = {MetricType.QUERY, MetricType.REASON_CHANGE, MetricType.SHADOW_DISAGREEMENT, *DECISION_LOG}
    assert plain == set(MetricType) - configured
