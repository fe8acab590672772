"""The files under contracts/ are valid and agree with one another; each part's own tests hold it to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from referencing import Registry, Resource

from conftest import REPOSITORY

CONTRACTS = REPOSITORY / "contracts"
CASES = json.loads((CONTRACTS / "cases/compatibility.json").read_text("utf-8"))
GOLDEN = {
    "model-contract-1.json": "model-contract",
    "model-contract-2.json": "model-contract",
    "model-contract-3.json": "model-contract",
    "model-contract-4.json": "model-contract",
    "route.json": "route",
    "route-without-canary.json": "route",
    "readiness-ready.json": "readiness",
    "readiness-ready-not-logging.json": "readiness",
    "readiness-artifact-rejected.json": "readiness",
    "artifact-copy.json": "artifact-copy",
    "decision-event.json": "decision-event",
    "decision-record.json": "decision-record",
    "timeline-event.json": "timeline-event",
    "notification.json": "notification",
    "drift-status.json": "drift-status",
    "training-reference.json": "training-reference",
    "check-request.json": "check-request",
    "check-answer.json": "check-answer",
}


def read(name: str) -> Any:
    return json.loads((CONTRACTS / name).read_text("utf-8"))


def validator(name: str) -> Draft202012Validator:
    files = [file.name for file in CONTRACTS.glob("*.schema.json")]
    registry: Registry[Any] = Registry().with_resources([(file, Resource.from_contents(read(file))) for file in files])
    return Draft202012Validator(read(f"{name}.schema.json"), registry=registry)


@pytest.mark.parametrize("file", sorted(CONTRACTS.glob("*.schema.json")), ids=lambda file: file.name)
def test_a_schema_is_a_schema(file: Path) -> None:
    assert read(file.name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(read(file.name))


@pytest.mark.parametrize(("file", "schema"), GOLDEN.items())
def test_a_golden_file_fits_its_schema(file: str, schema: str) -> None:
    assert not list(validator(schema).iter_errors(read(f"golden/{file}")))


def test_every_golden_document_is_checked() -> None:
    assert {file.name for file in (CONTRACTS / "golden").glob("*.json")} == set(GOLDEN)


@pytest.mark.parametrize(
    "key",
    ["ignored", "features", "score_histogram", "training_data_sha256", "probability_limits", "decision_rule", "grades",
     "default_rate"],
)  # fmt: skip
def test_a_model_contract_without_one_of_its_keys_is_refused(key: str) -> None:
    document = read("golden/model-contract-4.json")
    del document[key]
    assert not validator("model-contract").is_valid(document)


def test_a_model_contract_with_an_unknown_key_is_refused() -> None:
    newest, third = read("golden/model-contract-4.json"), read("golden/model-contract-3.json")
    older = read("golden/model-contract-2.json")
    for document in (
        {**newest, "extra": 1},
        {**newest, "decision_rule": {"method": "fixed", "margin": 0.05}},
        {**third, "grades": newest["grades"]},
        {**third, "features": newest["features"]},
        {**older, "extra": 1},
        {**older, "probability_limits": newest["probability_limits"]},
        {**older, "features": third["features"]},
        {**read("golden/model-contract-1.json"), "ignored": []},
    ):
        assert not validator("model-contract").is_valid(document)


@pytest.mark.parametrize(
    "key",
    ["missing", "missing_values", "other", "training_minimum", "training_maximum", "monotonic", "adverse_action"],
)
def test_a_feature_of_version_4_without_one_of_its_keys_is_refused(key: str) -> None:
    document = read("golden/model-contract-4.json")
    del next(feature for feature in reversed(document["features"]) if key in feature)[key]
    assert not validator("model-contract").is_valid(document)


def test_values_that_mean_missing_are_refused_where_nothing_may_be_missing() -> None:
    document = read("golden/model-contract-3.json")
    next(feature for feature in document["features"] if feature["missing_values"])["missing"] = False
    assert not validator("model-contract").is_valid(document)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: str(case["name"]))
def test_a_compatibility_case_compares_two_valid_contracts(case: dict[str, Any]) -> None:
    for side in ("champion", "challenger"):
        assert not list(validator("model-contract").iter_errors(case[side]))
    assert {problem["code"] for problem in case["problems"]} <= set(CASES["codes"])


def test_every_compatibility_code_has_a_case_that_shows_it() -> None:
    assert {problem["code"] for case in CASES["cases"] for problem in case["problems"]} == set(CASES["codes"])


def test_the_readiness_schema_lists_the_readiness_codes() -> None:
    codes = read("readiness-codes.json")["codes"]
    ready, waiting = read("readiness.schema.json")["oneOf"]
    assert [ready["properties"]["code"]["const"]] == [code["code"] for code in codes if code["status"] == 200]
    assert waiting["properties"]["code"]["enum"] == [code["code"] for code in codes if code["status"] == 503]


def test_the_golden_metrics_are_the_listed_ones_with_their_labels() -> None:
    listed = {metric["name"].removesuffix("_total"): metric for metric in read("metrics.json")["metrics"]}
    text = (CONTRACTS / "golden/scoring-pod.prom").read_text("utf-8")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == set(listed)
    for name, family in families.items():
        metric = listed[name]
        assert family.type == metric["type"]
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            assert set(labels) == set(metric["labels"])
            for label, allowed in metric["labels"].items():
                assert allowed is None or labels[label] in allowed
