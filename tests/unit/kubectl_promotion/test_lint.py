"""`lint` finds what the cluster would refuse, and what works but hardly as meant."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from kubectl_promotion.words.lint import Finding, lint
from promoter.api.rules import RULES
from shell import Shell

STEPS = [{"weight": 5, "duration": "1h"}, {"weight": 25, "duration": "30m"}, {"weight": 50, "duration": "30m"}]
Change = Callable[[dict[str, Any]], object]


def promotion_with(**spec: Any) -> dict[str, Any]:
    fields = {"model": {"name": "credit-risk"}, "steps": STEPS, **spec}
    return {
        "apiVersion": "creditrisk.io/v1alpha1",
        "kind": "ModelPromotion",
        "metadata": {"name": "loans"},
        "spec": {name: value for name, value in fields.items() if value is not None},
    }


def found(document: dict[str, Any], rate: float | None = None) -> list[tuple[str, str]]:
    return [(finding.severity, f"{finding.where}: {finding.message}") for finding in lint(document, rate)]


def test_a_good_one_has_nothing_to_mend() -> None:
    assert lint(promotion_with()) == []


@pytest.mark.parametrize("path", sorted((REPOSITORY / "manifests").glob("*-*.yaml")), ids=lambda path: path.stem)
def test_the_examples_have_no_errors(path: Path) -> None:
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    for document in (document for document in documents if document.get("kind") == "ModelPromotion"):
        assert [finding for finding in lint(document) if finding.severity == "error"] == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"analysis": {"minSample": 5}}, "spec.analysis.minSample: unknown field; did you mean minSamples?"),
        ({"steps": [{"weight": 5, "duration": "1m", "zzz": 1}]}, "spec.steps[0].zzz: unknown field; allowed: weight"),
        ({"canary": {"replicas": 99}}, "spec.canary.replicas: Input should be less than or equal to 50"),
        ({"steps": [{"weight": 50, "duration": "1m"}, {"weight": 5, "duration": "1m"}]},
         "spec.steps: weights must not decrease"),
        ({"model": {"name": "m", "alias": "a", "version": "3"}}, "spec.model: set at most one of alias"),
    ],
)  # fmt: skip
def test_what_the_cluster_refuses_is_an_error(spec: dict[str, Any], expected: str) -> None:
    errors = [text for severity, text in found(promotion_with(**spec)) if severity == "error"]
    assert len(errors) == 1
    assert errors[0].startswith(expected)


def test_every_broken_rule_is_named() -> None:
    document = promotion_with(model={"name": "m", "alias": "a", "stage": "s"}, steps=[{"weight": 5}, {"pause": {}}])
    messages = {text.removeprefix("spec.") for _, text in found(document)}
    assert messages <= {rule.message for rule in RULES}
    assert len(messages) == 2


def test_kind_and_name_are_checked() -> None:
    document = {**promotion_with(), "apiVersion": "creditrisk.io/v2", "metadata": {"name": "Loans_1"}}
    assert [text.partition(":")[0] for _, text in found(document)] == ["apiVersion", "metadata.name"]


@pytest.mark.parametrize(
    ("spec", "rate", "expected"),
    [
        ({"steps": [{"weight": 5, "duration": "1h"}]}, None,
         "spec.steps: a version is promoted to everybody after at most 5 %"),
        ({"steps": [{"weight": 80, "duration": "1h"}]}, None,
         "spec.steps: the first step gives an unknown version 80 %"),
        ({"steps": [STEPS[1], STEPS[1]]}, None, "spec.steps: 25 % twice in a row"),
        ({"steps": [{"weight": 2, "duration": "2h"}, STEPS[2]]}, None, "spec.steps: from 2 % to 50 % at once"),
        ({"analysis": {"interval": "45m"}}, None, "spec.steps[1]: 30m is shorter than analysis.interval (45m)"),
        ({"steps": [{"weight": 100, "duration": "1h"}]}, None,
         "spec.steps[0]: at 100 % the champion answers nobody"),
        ({"steps": [{"weight": 5, "duration": "1m"}, *STEPS[1:]]}, None,
         "spec.steps[0]: minSamples 100 in 1m at 5 % takes 33.3 requests/s or more; with fewer, the step then waits"),
        ({}, 0.5, "spec.steps[0]: about 90 of 100 samples in 1h at 0.5 requests/s; the step then waits"),
        ({"shadow": {"duration": "10s"}}, None, "spec.shadow: 10s is shorter than analysis.interval"),
        ({"shadow": {"duration": "1h"}, "analysis": {"metrics": [{"type": "ErrorRate"}]}}, None,
         "spec.shadow: no metric ShadowDisagreement"),
        ({"analysis": {"metrics": [{"type": "ScorePSI"}]}}, None, "spec.analysis.metrics: no ErrorRate"),
        ({"analysis": {"metrics": [{"type": "ErrorRate", "limit": 1}]}}, None,
         "spec.analysis.metrics[0].limit: ErrorRate is at most 1"),
        ({"analysis": {"metrics": [{"type": "ErrorRate"}, {"type": "LatencyP99", "limit": 0.9}]}}, None,
         "spec.analysis.metrics[1].limit: 0.9 times the champion's latency"),
        ({"analysis": {"onInsufficientData": "Proceed"}}, None, "spec.analysis.onInsufficientData: Proceed promotes"),
        ({"progressDeadlineSeconds": 30}, None, "spec.progressDeadlineSeconds: 30 s may be too short"),
        ({"skipAnalysis": True}, None, "spec.skipAnalysis: every version is promoted"),
        ({"steps": None, "strategy": "BlueGreen", "blueGreen": {"observe": "10s"}}, None,
         "spec.blueGreen.observe: 10s is shorter than analysis.interval"),
        ({"steps": None, "strategy": "Experiment", "experiment": {"weight": 1, "duration": "1h"}}, 1.0,
         "spec.experiment.duration: about 36 of 100 samples in 1h at 1 requests/s; the experiment then ends without a"),
    ],
)  # fmt: skip
def test_what_hardly_works_as_meant_is_a_warning(spec: dict[str, Any], rate: float | None, expected: str) -> None:
    findings = found(promotion_with(**spec), rate)
    assert {severity for severity, _ in findings} == {"warning"}
    assert [text for _, text in findings if text.startswith(expected)], findings


@pytest.mark.parametrize("strategy", ["BlueGreen", "Experiment"])
def test_another_strategy_with_its_defaults_has_nothing_to_mend(strategy: str) -> None:
    assert found(promotion_with(steps=None, strategy=strategy), 20.0) == []


def test_files_are_checked_without_a_cluster(promotion: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    good, odd, bad = (tmp_path / f"{name}.yaml" for name in ("good", "odd", "bad"))
    good.write_text(yaml.safe_dump_all([{"kind": "Service"}, promotion_with()]))
    odd.write_text(yaml.safe_dump({"kind": "List", "items": [promotion_with(progressDeadlineSeconds=30)]}))
    bad.write_text("a: [")
    ended = promotion("lint", str(good))
    assert (ended.code, ended.out) == (0, f"✔ {good}: loans: nothing to mend\n")
    warned = promotion("lint", str(good), str(odd))
    assert (warned.code, "loans: warning: spec.progressDeadlineSeconds" in warned.out) == (0, True)
    assert promotion("lint", "--strict", str(odd)).code == 4
    assert "not YAML" in promotion("lint", str(good), str(bad)).out
    found = promotion.json("lint", str(odd))
    assert [finding["severity"] for finding in found[0]["findings"]] == ["warning"]
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(promotion_with(zzz=1))))
    assert promotion("lint", "-").code == 4
    assert promotion("lint", str(tmp_path / "absent.yaml")).code == 3
    good.write_text("kind: Service")
    assert promotion("lint", str(good)).code == 3


def test_a_finding_is_a_document_for_programs() -> None:
    document = Finding("error", "spec.model", "why").to_document()
    assert document == {"severity": "error", "where": "spec.model", "message": "why"}
