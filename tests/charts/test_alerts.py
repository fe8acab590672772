"""Alerting rules: only where the cluster has the kind, and only about metrics that exist."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry

from charts.rendering import Document, of_kind, render
from conftest import REPOSITORY
from scorer.decision_log.metrics import LogMetrics

KNOWN = "--api-versions=monitoring.coreos.com/v1/PrometheusRule"
SCENARIO = "credit-risk/ci/decisions-values.yaml"
_METRIC = re.compile(r"\b(?:scorer|decisions)_[a-z_]+")


def rules(*options: str) -> list[Document]:
    """Return the alerting rules of the chart with a decision log."""
    (found,) = of_kind(render(SCENARIO, KNOWN, *options), "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(("scenario", "options"), [(SCENARIO, []), ("credit-risk/ci/default-values.yaml", [KNOWN])])
def test_without_the_kind_or_a_decision_log_there_are_no_rules(scenario: str, options: list[str]) -> None:
    assert not of_kind(render(scenario, *options), "PrometheusRule")


def test_rules_have_the_labels_by_which_prometheus_selects_them() -> None:
    (found,) = of_kind(render(SCENARIO, KNOWN, "--set=api.alerts.labels.release=prometheus"), "PrometheusRule")
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "api"


def test_every_metric_of_a_rule_is_reported_from_the_start() -> None:
    registry = CollectorRegistry()
    LogMetrics(registry)
    reported = {sample.name for family in registry.collect() for sample in family.samples}
    named = {name for rule in rules() for name in _METRIC.findall(rule["expr"])}
    assert named
    assert named <= reported


def test_every_rule_names_a_runbook_that_exists() -> None:
    for rule in rules():
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        titles = re.findall(r"^#+ (.*)$", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {title.lower().replace(" ", "-") for title in titles}
        assert rule["labels"]["severity"] in {"warning", "critical"}
