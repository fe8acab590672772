"""Scrape targets: PodMonitors, headless Services and annotations name ports that the pods have; one way is on."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from charts.rendering import Document, containers, of_kind, pod_templates, render, run_helm

BULK = ("--set=bulk.enabled=true", "--set=bulk.input=s3://data/in", "--set=bulk.output=s3://data/out",
        "--set-string=bulk.model.version=1")  # fmt: skip
EVERYTHING = ("--set=monitoring.prometheus.enabled=true", "--set=backup.metrics.enabled=true", *BULK)
SCENARIO = "credit-risk/ci/decisions-values.yaml"
KINDS = ("--api-versions=monitoring.coreos.com/v1/PodMonitor", "--api-versions=monitoring.coreos.com/v1/PrometheusRule")
TARGETS = {("api", "management", 9090), ("api", "shipper", 9091), ("backup", "metrics", 9092),
           ("bulk", "metrics", 9093), ("decisions", "management", 9091), ("operator", "http", 8080)}  # fmt: skip


def ports(documents: list[Document]) -> set[tuple[str, str, int]]:
    """Return the ports of all pods with the pods' charts and the ports' names."""
    return {
        (template["metadata"]["labels"]["app.kubernetes.io/name"], port["name"], port["containerPort"])
        for template in pod_templates(documents).values()
        for container in containers(template)
        for port in container.get("ports", [])
    }


def test_podmonitors_select_every_port_with_metrics_and_what_the_operator_says_of_namespaces() -> None:
    documents = render(SCENARIO, *EVERYTHING, *KINDS)
    found = set()
    for monitor in of_kind(documents, "PodMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"]
        assert labels["app.kubernetes.io/instance"] == "release"
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert endpoint["honorLabels"] is True
            found.add((labels["app.kubernetes.io/name"], endpoint["port"]))
    assert found == {(part, name) for part, name, _ in TARGETS}
    assert ports(documents) >= TARGETS


def test_the_own_prometheus_reads_the_same_ports_by_the_names_of_headless_services() -> None:
    documents = render(SCENARIO, *EVERYTHING)
    services = {
        (service["spec"]["selector"]["app.kubernetes.io/name"], port["targetPort"], port["port"])
        for service in of_kind(documents, "Service")
        if service["metadata"]["name"].endswith("-metrics")
        for port in service["spec"]["ports"]
        if service["spec"]["clusterIP"] == "None"
    }
    assert services == TARGETS
    (config,) = [found for found in of_kind(documents, "ConfigMap") if found["metadata"]["name"] == "prometheus"]
    jobs = yaml.safe_load(config["data"]["prometheus.yaml"])["scrape_configs"]
    looked_up = {(place["names"][0], place["port"]) for job in jobs for place in job.get("dns_sd_configs", [])}
    assert looked_up == {(f"{part}-metrics.ns.svc", port) for part, _, port in TARGETS}


@pytest.mark.parametrize(("options", "scrape"), [(KINDS, "false"), ((), "true")])
def test_pods_have_annotations_for_prometheus_where_there_are_no_podmonitors(
    options: tuple[str, ...], scrape: str
) -> None:
    documents = render(SCENARIO, *EVERYTHING, *options)
    annotations: dict[str, Any] = {
        name: template["metadata"].get("annotations", {}) for name, template in pod_templates(documents).items()
    }
    for name in ("scoring", "operator", "decisions", "backup-metrics"):
        assert annotations[f"Deployment/{name}"]["prometheus.io/scrape"] == scrape
        assert ("prometheus.io/port" in annotations[f"Deployment/{name}"]) is (scrape == "true")
    (job,) = (name for name in annotations if name.startswith("Job/bulk-"))
    assert annotations[job]["prometheus.io/scrape"] == scrape
    assert bool(of_kind(documents, "PodMonitor")) is (scrape == "false")


def test_without_prometheus_there_is_no_pod_and_no_service_for_it() -> None:
    documents = render("monitoring/ci/rules-only-values.yaml", *KINDS)
    assert {document["kind"] for document in documents} == {"ConfigMap", "PodMonitor", "PrometheusRule"}


def test_prometheus_has_no_token_and_restarts_when_its_rules_change() -> None:
    def pod(*options: str) -> Document:
        return pod_templates(render("monitoring/ci/default-values.yaml", *options))["StatefulSet/prometheus"]

    assert pod()["spec"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod()["spec"]
    changed = pod("--set=alerts.NoReadyScorer.for=7s")["metadata"]["annotations"]
    assert changed["checksum/config"] != pod()["metadata"]["annotations"]["checksum/config"]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--set=alerts.NoReadyScorrer.for=1m", "NoReadyScorrer"),
        ("--set=alerts.NoReadyScorer.for=soon", "for"),
        ("--set=alerts.NoReadyScorer.threshold=1", "threshold"),
        ("--set=slos[0].objective=100", "objective"),
        ("--set=probes.targets={scoring.example.org}", "targets"),
    ],
)
def test_values_that_make_no_rule_are_rejected(option: str, reason: str) -> None:
    result = run_helm("template", "release", "monitoring", option)
    assert result.returncode != 0
    assert reason in result.stderr
