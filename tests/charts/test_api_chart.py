"""The API's chart: access control, the ingress, and settings that the service accepts."""

from __future__ import annotations

import base64
import hashlib

import pytest
import yaml

from charts.rendering import SCENARIOS, of_kind, pod_spec, pod_templates, render, run_helm
from scorer.settings import Settings as ScorerSettings


def test_the_pod_annotations_are_never_empty_and_never_contain_the_model_version() -> None:
    for scenario in (name for name in SCENARIOS if name.startswith("api/")):
        (deployment,) = of_kind(render(scenario), "Deployment")
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations
        assert "creditrisk.io/model-version" not in annotations


def test_the_service_does_not_expose_the_management_port() -> None:
    documents = render("api/ci/autoscaled-values.yaml")
    (service,) = of_kind(documents, "Service")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


def test_a_generated_api_key_reaches_the_service_only_as_its_hash() -> None:
    documents = render("credit-risk/ci/default-values.yaml")
    secrets = {secret["metadata"]["name"]: secret["data"] for secret in of_kind(documents, "Secret")}
    key = base64.b64decode(secrets["scoring-api-key"]["key"])
    assert len(key) == 43
    assert base64.b64decode(secrets["scoring-access"]["default"]).decode() == hashlib.sha256(key).hexdigest()
    spec = pod_templates(documents)["Deployment/scoring"]["spec"]
    assert "scoring-api-key" not in yaml.safe_dump(spec)
    assert {"name": "access", "secret": {"secretName": "scoring-access"}} in spec["volumes"]
    assert {"name": "SCORER_ACCESS_MODE", "value": "apiKeys"} in spec["containers"][0]["env"]


@pytest.mark.parametrize(
    ("scenario", "mode", "secret"),
    [("autoscaled", "apiKeys", "our-clients"), ("oidc", "oidc", None), ("plain", "none", None)],
)
def test_no_api_key_is_generated_if_none_is_needed(scenario: str, mode: str, secret: str | None) -> None:
    documents = render(f"api/ci/{scenario}-values.yaml")
    assert not of_kind(documents, "Secret")
    (spec,) = map(pod_spec, of_kind(documents, "Deployment"))
    assert {"name": "SCORER_ACCESS_MODE", "value": mode} in spec["containers"][0]["env"]
    mounted = [volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "access"]
    assert mounted == ([secret] if secret else [])


def test_the_service_accepts_the_settings_that_the_chart_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render("api/ci/autoscaled-values.yaml")
    (spec,) = map(pod_spec, of_kind(documents, "Deployment"))
    for variable in spec["containers"][0]["env"]:
        if "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"])
    settings = ScorerSettings()
    assert (settings.base_points, settings.base_odds, settings.pdo) == (700.5, 20, 40)
    assert settings.audit_log
    assert not settings.pairing
    assert settings.access_mode == "apiKeys"
    assert settings.root_path == "/lending/scoring"
    assert settings.cors_allowed_origins == ("https://app.example.org", "http://localhost:3000")
    named = {variable["name"] for variable in spec["containers"][0]["env"]}
    assert named <= {f"SCORER_{name.upper()}" for name in ScorerSettings.model_fields}


def test_traces_are_exported_if_the_values_name_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = map(pod_spec, of_kind(render("api/ci/tracing-values.yaml"), "Deployment"))
    variables = {variable["name"]: variable for variable in spec["containers"][0]["env"]}
    for name, variable in variables.items():
        if name.startswith("SCORER_TRACING_"):
            monkeypatch.setenv(name, variable["value"])
    settings = ScorerSettings()
    assert (settings.tracing_endpoint, settings.tracing_ratio) == ("https://collector.example.org/v1/traces", 0.1)
    # As the exporter's library reads them.
    headers = variables["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]["valueFrom"]
    assert headers == {"secretKeyRef": {"name": "collector", "key": "headers"}}
    assert variables["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"]["value"] == "/etc/creditrisk/ca/ca.crt"


def test_without_an_endpoint_the_pods_know_nothing_of_traces() -> None:
    # With a bundle of certificates, which traces would need, too.
    for scenario in ("default", "pod-settings"):
        (spec,) = map(pod_spec, of_kind(render(f"api/ci/{scenario}-values.yaml"), "Deployment"))
        names = [variable["name"] for variable in spec["containers"][0]["env"]]
        assert not [name for name in names if "TRACING" in name or "OTEL" in name]


def test_a_pod_may_take_as_long_to_stop_as_its_service_does_at_most() -> None:
    (spec,) = map(pod_spec, of_kind(render("api/ci/default-values.yaml"), "Deployment"))
    _, pause = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    settings = ScorerSettings()
    longest = float(pause) + settings.drain_seconds + settings.shutdown_grace_seconds
    # With time for the process to end.
    assert longest + 2 <= spec["terminationGracePeriodSeconds"]


def test_the_ingress_terminates_tls_if_the_values_ask_for_it() -> None:
    (ingress,) = of_kind(render("api/ci/autoscaled-values.yaml"), "Ingress")
    assert ingress["spec"]["tls"] == [{"hosts": ["score.example.org"], "secretName": "score-tls"}]
    assert ingress["spec"]["rules"][0]["host"] == "score.example.org"
    (plain,) = of_kind(render("api/ci/default-values.yaml"), "Ingress")
    assert "tls" not in plain["spec"]


def test_the_ingress_and_the_service_have_the_same_path_prefix() -> None:
    for scenario, path in [("default", "/"), ("autoscaled", "/lending/scoring")]:
        documents = render(f"api/ci/{scenario}-values.yaml")
        (ingress,) = of_kind(documents, "Ingress")
        (rule,) = ingress["spec"]["rules"][0]["http"]["paths"]
        (spec,) = map(pod_spec, of_kind(documents, "Deployment"))
        assert (rule["path"], rule["pathType"]) == (path, "Prefix")
        assert {"name": "SCORER_ROOT_PATH", "value": path} in spec["containers"][0]["env"]


def test_no_origin_is_allowed_by_default_or_by_values_of_an_older_release() -> None:
    for options in ([], ["--set", "cors=null", "--set", "ingress.path=null"]):
        documents = render("api/ci/default-values.yaml", *options)
        (spec,) = map(pod_spec, of_kind(documents, "Deployment"))
        environment = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
        assert environment["SCORER_CORS_ALLOWED_ORIGINS"] == "[]"
        assert environment["SCORER_ROOT_PATH"] == "/"


@pytest.mark.parametrize(
    "wrong",
    ["ingress.path=scoring", "ingress.path=/scoring/", "ingress.path=/v1", "ingress.path=/docs/x",
     "cors.allowedOrigins={app.example.org}", "cors.allowedOrigins={https://a.org/}"],
)  # fmt: skip
def test_wrong_prefixes_and_origins_do_not_render(wrong: str) -> None:
    found = run_helm("template", "release", "api", "--set", wrong)
    assert found.returncode != 0
    assert wrong.partition("=")[0].replace(".", "/") in found.stderr.replace(".", "/")


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.20", ("policy/v1beta1", "autoscaling/v2beta2")), ("1.33", ("policy/v1", "autoscaling/v2"))],
)
def test_old_clusters_get_the_api_versions_they_serve(version: str, expected: tuple[str, str]) -> None:
    found = {d["kind"]: d["apiVersion"] for d in render("api/ci/autoscaled-values.yaml", "--kube-version", version)}
    assert (found["PodDisruptionBudget"], found["HorizontalPodAutoscaler"]) == expected


def test_pods_that_something_else_scales_have_no_number_and_no_autoscaler() -> None:
    rendered = render("api/ci/default-values.yaml", "--set=autoscaling.external=true")
    (scoring,) = (found for found in of_kind(rendered, "Deployment") if found["metadata"]["name"] == "scoring")
    assert "replicas" not in scoring["spec"], "an upgrade would set it"
    assert of_kind(rendered, "HorizontalPodAutoscaler") == []
