"""The values `tracing` of operator, decisions service and training; those of the scoring pods are in test_api_chart."""

from __future__ import annotations

from typing import Any

import pytest

from charts.rendering import containers, pod_templates, render
from decisions.settings import ServeSettings
from promoter.settings import Settings as OperatorSettings
from trainer.settings import parse

ENDPOINT = "https://collector.example.org/v1/traces"
PARTS = [
    ("operator", "Deployment/operator", "PROMOTER"),
    ("decisions", "Deployment/decisions", "DECISIONS"),
    ("training", "CronJob/retraining", "TRAINER"),
]


def variables(scenario: str, workload: str) -> dict[str, dict[str, Any]]:
    template = pod_templates(render(scenario))[workload]
    main = containers(template)[-1]
    return {variable["name"]: variable for variable in main["env"]}


@pytest.mark.parametrize(("chart", "workload", "prefix"), PARTS)
def test_an_endpoint_and_the_secret_with_its_headers_reach_the_program(chart: str, workload: str, prefix: str) -> None:
    found = variables(f"{chart}/ci/tracing-values.yaml", workload)
    assert found[f"{prefix}_TRACING_ENDPOINT"]["value"] == ENDPOINT
    headers = found["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]["valueFrom"]
    assert headers == {"secretKeyRef": {"name": "collector", "key": "headers"}}


@pytest.mark.parametrize(("chart", "workload", "prefix"), PARTS)
def test_without_an_endpoint_no_program_knows_of_traces(chart: str, workload: str, prefix: str) -> None:
    scenario = "training/ci/retraining" if chart == "training" else f"{chart}/ci/default"
    names = variables(f"{scenario}-values.yaml", workload)
    assert not [name for name in names if "TRACING" in name or "OTEL" in name]


def test_the_programs_read_what_the_charts_write(monkeypatch: pytest.MonkeyPatch) -> None:
    for chart, workload, prefix in PARTS:
        for name, variable in variables(f"{chart}/ci/tracing-values.yaml", workload).items():
            if name.startswith(f"{prefix}_TRACING_"):
                monkeypatch.setenv(name, variable["value"])
    operator, service = OperatorSettings(), ServeSettings(database_url="postgresql://", permissions={})
    assert (operator.tracing_endpoint, operator.tracing_ratio) == (ENDPOINT, 0.1)
    assert (service.tracing_endpoint, service.tracing_ratio) == (ENDPOINT, 0.1)
    trainer = parse(["--data=synthetic"], {"TRAINER_TRACING_ENDPOINT": ENDPOINT, "TRACEPARENT": "00-1-2-01"})
    assert (trainer.tracing_endpoint, trainer.traceparent) == (ENDPOINT, "00-1-2-01")


def test_a_training_that_the_operator_starts_continues_its_trace() -> None:
    parent = variables("training/ci/tracing-values.yaml", "CronJob/retraining")["TRACEPARENT"]["valueFrom"]
    assert parent == {"fieldRef": {"fieldPath": "metadata.annotations['creditrisk.io/traceparent']"}}
    (template,) = pod_templates(render("training/ci/default-values.yaml")).values()
    assert "TRACEPARENT" not in {variable["name"] for variable in containers(template)[-1]["env"]}
