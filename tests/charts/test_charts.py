"""All charts: every scenario renders, is valid for old and new clusters, is hardened and leaks no credentials."""

from __future__ import annotations

import itertools
import re

import kubernetes_validate
import pytest
import yaml

from charts.rendering import CHARTS, NAMES, SCENARIOS, containers, of_kind, pod_templates, render, run_helm
from conftest import REPOSITORY

# Schemas older than 1.25 are not published; the end-to-end tests take them from a real 1.20.
SCHEMAS = ["1.25", "1.33", kubernetes_validate.latest_version().rpartition(".")[0]]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_passes_helm_lint(scenario: str) -> None:
    result = run_helm("lint", "--strict", scenario.partition("/")[0], "--values", scenario)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("scenario", "version"), list(itertools.product(SCENARIOS, SCHEMAS)))
def test_every_scenario_is_valid_for_old_and_new_kubernetes_schemas(scenario: str, version: str) -> None:
    documents = render(scenario, "--kube-version", version)
    assert documents
    for document in documents:
        if version == "1.25" and document["kind"] == "Job":
            # This schema requires onPodConditions in addition to onExitCodes; no API server does.
            document["spec"].pop("podFailurePolicy", None)
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_pod_is_hardened_and_declares_its_resources(scenario: str) -> None:
    for name, template in pod_templates(render(scenario)).items():
        spec = template["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # Only the operator talks to the API server.
        assert spec["automountServiceAccountToken"] is (name == "Deployment/operator"), name
        for container in containers(template):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_server_has_a_readiness_and_a_liveness_probe(scenario: str) -> None:
    for name, template in pod_templates(render(scenario)).items():
        if name.startswith(("Deployment", "StatefulSet")):
            for container in template["spec"]["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_generated_credentials_appear_only_in_secrets(scenario: str) -> None:
    generated = {
        value
        for document in render(scenario)
        if document["kind"] == "Secret"
        for key, value in document["data"].items()
        # Certificates are public.
        if key not in {"username", "database", "ca.crt", "tls.crt"}
    }
    rest = yaml.safe_dump([document for document in render(scenario) if document["kind"] != "Secret"])
    assert not [value for value in generated if value in rest]
    for template in pod_templates(render(scenario)).values():
        for container in containers(template):
            for variable in container.get("env", []):
                if re.search("PASSWORD\\w*_(FILE|DIR)$", variable["name"]):
                    assert variable["value"].startswith("/etc/creditrisk/"), "a file's name, not its content"
                elif re.search("PASSWORD|SECRET|ACCESS_KEY|ROOT_USER", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable


@pytest.mark.parametrize("name", NAMES)
def test_unknown_values_are_rejected_by_name(name: str) -> None:
    result = run_helm("template", "release", name, "--set", "colour=red")
    assert result.returncode != 0
    assert "colour" in result.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--set=seaweedfs.enabled=true"], "one S3 server at most"),
        (["--set=minio.enabled=false"], "no S3 server"),
        (["--set=global.s3.endpoint=https://s3.example.org"], "global.s3.endpoint names another S3 server"),
        (["--set=postgres.enabled=false"], "no database"),
        (["--set=api.decisionLog.mode=log"], "decisions.enabled is false: nothing would create the database"),
        (["--set=api.decisionLog.mode=always"], "decisionLog"),
        (["--set=api.decisionLog.volume.hostPath.path=/var"], "hostPath"),
        (["--set=decisions.enabled=true", "--set=decisions.archive.retentionMonths=5"], "retentionMonths"),
        (["--set=decisions.enabled=true", '--set-json=decisions.access.permissions={"decisions:write": []}'], "write"),
        (["--set=api.image.tag="], "image.tag or image.digest is required"),
        (["--set=api.replicas=0"], "replicas"),
        (["--set=api.scorecard.baseOdds=0"], "baseOdds"),
        (["--set=api.access.mode=open"], "access"),
        (["--set=api.access.mode=oidc"], "access.oidc.issuer is required"),
        (["--set=api.access.mode=oidc", "--set=api.access.oidc.issuer=http://id.example.org"], "issuer"),
        (["--set-string=api.podAnnotations.creditrisk\\.io/model-version=3"], "podAnnotations"),
    ],
)
def test_invalid_and_contradictory_values_are_rejected_with_a_reason(options: list[str], reason: str) -> None:
    result = run_helm("template", "release", "credit-risk", *options)
    assert result.returncode != 0
    assert reason in result.stderr


def test_network_policies_allow_only_the_connections_that_the_stack_uses() -> None:
    connections = {
        (peer["podSelector"]["matchLabels"].get("app.kubernetes.io/name", "client"), policy["metadata"]["name"])
        for policy in render("credit-risk/ci/default-values.yaml")
        if policy["kind"] == "NetworkPolicy"
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        if "podSelector" in peer
    }
    assert connections == {
        ("api", "mlflow"),
        ("training", "mlflow"),
        ("operator", "mlflow"),
        ("mlflow", "operator"),
        ("operator", "scoring"),
        ("api", "scoring"),  # stable pods forward requests to the canary
        ("mlflow", "postgres"),
        ("training", "postgres"),
        ("backup", "postgres"),
        ("mlflow", "minio"),
        ("training", "minio"),
        ("backup", "minio"),
        ("client", "scoring"),
    }


def test_the_decision_log_is_let_in_to_database_store_and_registry_only_if_it_is_on() -> None:
    def peers(*options: str) -> dict[str, set[str]]:
        return {
            policy["metadata"]["name"]: {
                peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
                for rule in policy["spec"]["ingress"]
                for peer in rule["from"]
            }
            for policy in of_kind(render("credit-risk/ci/decisions-values.yaml", *options), "NetworkPolicy")
            if policy["metadata"]["name"] in {"postgres-decisions", "s3-decisions", "mlflow-decisions"}
        }

    everyone = {"decisions", "api"}
    models = {"mlflow-decisions": {"decisions"}}
    assert peers() == {"postgres-decisions": everyone, "s3-decisions": everyone, **models}
    assert peers("--set=api.decisionLog.handOver=false") == {
        "postgres-decisions": everyone,
        "s3-decisions": {"decisions"},
        **models,
    }
    # A policy of its own would keep out those whom the others let in where no policy applies.
    off = [f"--set={chart}.networkPolicy.enabled=false" for chart in ("postgres", "minio", "mlflow")]
    assert peers(*off) == {}
    assert peers("--set=decisions.enabled=false", "--set=api.decisionLog.mode=off") == {}


def test_only_local_clusters_turn_access_control_off() -> None:
    for cluster in ("embedded", "kind"):
        values = yaml.safe_load((REPOSITORY / "cluster" / cluster / "values.yaml").read_text())
        assert values["api"]["access"] == {"mode": "none"}
    assert yaml.safe_load((CHARTS / "api" / "values.yaml").read_text())["access"]["mode"] == "apiKeys"
