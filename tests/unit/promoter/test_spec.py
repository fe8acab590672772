"""The resource: what is allowed, what is told when it is not, and that its copies say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from promoter.api import durations
from promoter.api.crd import crd, render
from promoter.api.spec import CEL_RULES, InvalidSpecError, MetricType, parse_spec
from promoter.decision.draft import plan

ROOT = Path(__file__).parents[3]
EXAMPLES = ["follow-alias", "pin-version", "cautious"]
MODEL = {"name": "credit-risk"}
QUERY = {"type": "Query", "name": "q", "query": "up", "limit": 1}
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.mark.parametrize("copy", ["charts/operator/files/crd.yaml", "manifests/modelpromotions.creditrisk.io.yaml"])
def test_the_copies_of_the_definition_are_what_the_models_say(copy: str) -> None:
    assert (ROOT / copy).read_text() == render(), "run `python -m promoter.crd` into it"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_valid_and_nothing_in_them_is_ignored(name: str) -> None:
    document = yaml.safe_load((ROOT / "manifests" / f"{name}.yaml").read_text())
    spec = parse_spec(document["spec"])
    # Nothing in it was misspelt and thereby ignored.
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]
    assert plan(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**MODEL, "alias": "a", "version": "1"}}, CEL_RULES[0][1]),
        ({"steps": [{"weight": 5, "duration": "1m", "pause": {}}]}, CEL_RULES[1][1]),
        ({"steps": [{"weight": 5}]}, CEL_RULES[2][1]),
        ({"steps": [{"pause": {}}]}, CEL_RULES[3][1]),
        ({"steps": [{"weight": 9, "duration": "1m"}, {"weight": 5, "duration": "1m"}]}, CEL_RULES[4][1]),
        ({"analysis": {"metrics": [QUERY]}}, CEL_RULES[5][1]),
        ({"analysis": {"metrics": [{"type": "ShadowDisagreement"}]}}, CEL_RULES[6][1]),
        ({"steps": [{"weight": 101, "duration": "1m"}]}, "less than or equal to 100"),
        ({"shadow": {"duration": "soon"}}, "spec.shadow.duration: String should match pattern"),
        ({"model": {}}, "spec.model.name: Field required"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_with_what_is_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"model": MODEL} | changes)
    assert message in str(raised.value)


def test_the_target_cannot_change_under_way() -> None:
    with pytest.raises(InvalidSpecError, match="targetRef: cannot change"):
        parse_spec({"model": MODEL, "targetRef": {"name": "other"}}, target="scoring")


def test_without_a_pointer_the_alias_production_is_followed() -> None:
    assert parse_spec({"model": MODEL}).model.pointer == ("alias", "production")


def test_without_metrics_all_are_judged_that_apply() -> None:
    plain = {metric.type for metric in parse_spec({"model": MODEL}).metrics}
    assert plain == set(MetricType) - {MetricType.QUERY, MetricType.SHADOW_DISAGREEMENT}


def test_every_field_has_a_description() -> None:
    def missing(schema: dict[str, Any], path: str) -> list[str]:
        found = [f"{path}.{name}" for name, part in schema.get("properties", {}).items() if "description" not in part]
        for name, part in schema.get("properties", {}).items():
            found += missing(part.get("items", part), f"{path}.{name}")
        return found

    assert missing(SCHEMA["properties"]["spec"], "spec") == []


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("1.5m", 90), ("250ms", 0.25)])
def test_durations_are_what_kubernetes_users_write(text: str, seconds: float) -> None:
    assert durations.seconds(text) == seconds


@given(st.text(max_size=8).filter(lambda text: not re.match(durations.PATTERN, text)))
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        durations.seconds(text)


def test_the_guides_table_is_the_schema() -> None:
    def rows(schema: dict[str, Any], path: str = "") -> list[str]:
        found = []
        for name, part in schema.get("properties", {}).items():
            inner = rows(part.get("items", part), f"{path}{name}.")
            found += inner or [f"| `{path}{name}` | {part['type']} | {default(part)} | {allowed(part)} "
                               f"| {part['description']} |"]  # fmt: skip
        return found

    def default(part: dict[str, Any]) -> str:
        return str(part.get("default", "")).lower() if part["type"] == "boolean" else str(part.get("default", ""))

    def allowed(part: dict[str, Any]) -> str:
        if "minimum" in part:
            return f"{part['minimum']:g} to {int(part['maximum']) if 'maximum' in part else ''}".strip()
        return ", ".join(part.get("enum", ()))

    guide = (ROOT / "docs" / "promotion.md").read_text()
    table = guide.partition("## Every field")[2].partition("##")[0]
    written = [re.sub(r"\s+", " ", line) for line in table.splitlines() if line.startswith("| `")]
    assert written == [re.sub(r"\s+", " ", row) for row in rows(SCHEMA["properties"]["spec"])]
