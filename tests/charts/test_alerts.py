"""Alerts: promtool finds the rules right, each fires and is quiet, and each has a runbook and metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts.alert_cases import CASES, SHORTER, Case
from charts.rendering import Document, of_kind, render
from conftest import REPOSITORY
from prometheus import program
from promql import metrics_in

KNOWN = "--api-versions=monitoring.coreos.com/v1/PrometheusRule"
DEFAULT = "monitoring/ci/default-values.yaml"


def configuration(scenario: str = DEFAULT, *options: str) -> dict[str, str]:
    """Return the files of the chart's own Prometheus."""
    (found,) = [
        each for each in of_kind(render(scenario, *options), "ConfigMap") if each["metadata"]["name"] == "prometheus"
    ]
    return dict(found["data"])


def rules() -> list[Document]:
    """Return all rules."""
    groups: list[Any] = yaml.safe_load(configuration()["rules.yaml"])["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[Document]:
    """Return all alerting rules."""
    return [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: str) -> None:
    """Run promtool; its output is the reason of a failure."""
    result = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("scenario", [DEFAULT, "monitoring/ci/everything-values.yaml"])
def test_promtool_accepts_configuration_and_rules(scenario: str, tmp_path: Path) -> None:
    for name, text in configuration(scenario).items():
        (tmp_path / name).write_text(text.replace("/etc/prometheus/", f"{tmp_path}/"))
    # Only inside of a pod there is the token by which the pods are found.
    promtool("check", "config", "--syntax-only", str(tmp_path / "prometheus.yaml"))
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yaml"))


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_on_its_fault_and_is_quiet_without_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(configuration(DEFAULT, *SHORTER)["rules.yaml"])
    tests = [_promtool_test(name, case, fires=fires) for case in CASES[name] for fires in (True, False)]
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "5m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(tmp_path / "tests.yaml"))


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {alert["alert"] for alert in alerts()}


def _promtool_test(name: str, case: Case, *, fires: bool) -> Document:
    series = case.firing if fires else case.quiet
    found = next(alert for alert in alerts() if alert["alert"] == name)
    labels = {
        "alertname": name,
        "alertstate": "firing",
        "namespace": "ns",
        "severity": found["labels"]["severity"],
    } | case.labels
    matcher = ", ".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    expected = [{"labels": f"ALERTS{{{matcher}}}", "value": 1}]
    # The slower of two burn rates fires as well.
    asked = f'ALERTS{{alertname="{name}", alertstate="firing", window=~"|1h"}}'
    return {
        "name": f"{name} {'fires' if fires else 'is quiet'}",
        "interval": "1m",
        "input_series": [{"series": selector, "values": values} for selector, values in series.items()],
        "promql_expr_test": [{"expr": asked, "eval_time": case.after, "exp_samples": expected if fires else []}],
    }


def test_a_prometheusrule_has_the_same_rules_and_the_labels_by_which_it_is_selected() -> None:
    (found,) = of_kind(
        render("monitoring/ci/rules-only-values.yaml", KNOWN, "--set=labels.release=ours"), "PrometheusRule"
    )
    assert found["spec"] == yaml.safe_load(configuration()["rules.yaml"])
    assert found["metadata"]["labels"]["release"] == "ours"
    assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "monitoring"
    assert not of_kind(render("monitoring/ci/rules-only-values.yaml"), "PrometheusRule")


def test_the_stack_has_exactly_one_prometheusrule() -> None:
    assert len(of_kind(render("credit-risk/ci/decisions-values.yaml", KNOWN), "PrometheusRule")) == 1


def test_every_alert_names_a_runbook_that_exists() -> None:
    text = (REPOSITORY / "docs/operations.md").read_text(encoding="utf-8")
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page.endswith("docs/operations.md")
        assert anchor in anchors
        assert alert["labels"]["severity"] in {"warning", "critical"}


def test_an_alert_can_be_switched_off_and_its_threshold_changed() -> None:
    changed = configuration(
        DEFAULT, "--set=alerts.RolloutFailed.enabled=false", "--set=alerts.DecisionsNotShipped.threshold=7",
        "--set=alerts.DecisionsNotShipped.for=3s",
    )["rules.yaml"]  # fmt: skip
    found = {rule.get("alert"): rule for group in yaml.safe_load(changed)["groups"] for rule in group["rules"]}
    assert "RolloutFailed" not in found
    assert found["DecisionsNotShipped"]["expr"].endswith("> 7")
    assert found["DecisionsNotShipped"]["for"] == "3s"


def test_every_metric_and_label_in_a_rule_exists() -> None:
    for rule in rules():
        assert metrics_in(rule["expr"]), rule


def test_every_alert_of_the_file_has_settings_and_no_token_is_left() -> None:
    values = yaml.safe_load((REPOSITORY / "charts/monitoring/values.yaml").read_text())
    listed = yaml.safe_load((REPOSITORY / "charts/monitoring/files/alerts.yaml").read_text())
    assert [alert["alert"] for alert in listed] == list(values["alerts"])
    assert not re.findall("THRESHOLD|NAMESPACE|OPERATOR|WINDOW|<nil>", json.dumps(rules()))
