"""The charts: every scenario renders, is valid for old and new clusters, is held down, and keeps no secret."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import fields
from typing import Any

import kubernetes_validate
import pytest
import yaml

from charts.rendering import CHARTS, SCENARIOS, render, run_helm
from conftest import REPOSITORY
from scorer.settings import Settings as ScorerSettings
from trainer.evaluation.gates import GateLimits
from trainer.learning.hyperparameters import Hyperparameters
from trainer.settings import parse

NAMES = [path.parent.name for path in sorted(CHARTS.glob("*/values.yaml"))]
# Schemas older than 1.25 are not published; the end-to-end tests take them from a real 1.20.
SCHEMAS = ["1.25", "1.33", kubernetes_validate.latest_version().rpartition(".")[0]]
POD_OWNERS = {"Deployment", "StatefulSet", "Job", "CronJob", "Pod"}


def pod_spec(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec if document["kind"] == "Pod" else dict(spec["template"]["spec"])


def pods(scenario: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{document['kind']}/{document['metadata']['name']}", pod_spec(document))
        for document in render(scenario)
        if document["kind"] in POD_OWNERS
    ]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_passes_the_linter(scenario: str) -> None:
    result = run_helm("lint", "--strict", scenario.partition("/")[0], "--values", scenario)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("scenario", "version"), list(itertools.product(SCENARIOS, SCHEMAS)))
def test_every_scenario_fits_the_schemas_of_kubernetes(scenario: str, version: str) -> None:
    for document in render(scenario, "--kube-version", version):
        if version == "1.25" and document["kind"] == "Job":
            # Its schema demands onPodConditions beside onExitCodes, which no API server does.
            document["spec"].pop("podFailurePolicy", None)
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_pod_is_held_down(scenario: str) -> None:
    for name, spec in pods(scenario):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # The operator alone talks to the API server.
        assert spec["automountServiceAccountToken"] is (name == "Deployment/operator"), name
        for container in spec["containers"] + spec.get("initContainers", []):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_server_tells_when_it_is_ready_and_when_it_is_dead(scenario: str) -> None:
    for name, spec in pods(scenario):
        if name.startswith(("Deployment", "StatefulSet")):
            for container in spec["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_secret_stands_outside_of_a_secret(scenario: str) -> None:
    generated = {
        value
        for document in render(scenario)
        if document["kind"] == "Secret"
        for key, value in document["data"].items()
        if key not in {"username", "database"}
    }
    rest = yaml.safe_dump([document for document in render(scenario) if document["kind"] != "Secret"])
    assert not [value for value in generated if value in rest]
    for _, spec in pods(scenario):
        for container in spec["containers"] + spec.get("initContainers", []):
            for variable in container.get("env", []):
                if re.search("PASSWORD|SECRET|ACCESS_KEY|ROOT_USER", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable


@pytest.mark.parametrize("name", NAMES)
def test_unknown_values_are_refused(name: str) -> None:
    result = run_helm("template", "release", name, "--set", "colour=red")
    assert result.returncode != 0
    assert "colour" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set=seaweedfs.enabled=true"], "one S3 server at most"),
        (["--set=minio.enabled=false"], "no S3 server"),
        (["--set=global.s3.endpoint=https://s3.example.org"], "global.s3.endpoint names another S3 server"),
        (["--set=postgres.enabled=false"], "no database"),
        (["--set=api.image.tag="], "image.tag or image.digest is needed"),
        (["--set=api.replicas=0"], "replicas"),
        (["--set=api.scorecard.baseOdds=0"], "baseOdds"),
        (["--set=api.access.mode=open"], "access"),
        (["--set=api.access.mode=oidc"], "access.oidc.issuer is needed"),
        (["--set=api.access.mode=oidc", "--set=api.access.oidc.issuer=http://id.example.org"], "issuer"),
        (["--set-string=api.podAnnotations.creditrisk\\.io/model-version=3"], "podAnnotations"),
    ],
)
def test_values_that_contradict_one_another_are_refused_in_words(options: list[str], said: str) -> None:
    result = run_helm("template", "release", "credit-risk", *options)
    assert result.returncode != 0
    assert said in result.stderr


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.20", ("policy/v1beta1", "autoscaling/v2beta2")), ("1.33", ("policy/v1", "autoscaling/v2"))],
)
def test_old_clusters_get_the_api_versions_that_they_have(version: str, expected: tuple[str, str]) -> None:
    found = {d["kind"]: d["apiVersion"] for d in render("api/ci/autoscaled-values.yaml", "--kube-version", version)}
    assert (found["PodDisruptionBudget"], found["HorizontalPodAutoscaler"]) == expected


def test_old_clusters_get_a_cronjob_and_no_failure_policy() -> None:
    (job,) = [
        document
        for document in render("training/ci/scheduled-values.yaml", "--kube-version", "1.20")
        if document["kind"] == "CronJob"
    ]
    assert job["apiVersion"] == "batch/v1beta1"
    assert "podFailurePolicy" not in job["spec"]["jobTemplate"]["spec"]


def test_the_models_version_is_never_templated_and_its_map_never_empty() -> None:
    for scenario in (name for name in SCENARIOS if name.startswith("api/")):
        (deployment,) = [document for document in render(scenario) if document["kind"] == "Deployment"]
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations
        assert "creditrisk.io/model-version" not in annotations


def test_another_run_is_another_job_and_the_same_run_the_same() -> None:
    def job(*options: str) -> str:
        documents = render("training/ci/default-values.yaml", *options)
        return str(next(document["metadata"]["name"] for document in documents if document["kind"] == "Job"))

    assert job() == job("--set=networkPolicy.enabled=false")
    assert len({job(), job("--set-string=run=2"), job("--set=data=s3://data/x.csv"), job("--set=args={--seed=3}")}) == 4


def test_a_helm_upgrade_never_changes_a_job_it_only_replaces_it() -> None:
    """A Job's spec cannot be changed: whatever changes it has to change its name too."""
    specs: dict[str, str] = {}
    for options in (
        [],
        ["--set-string=image.tag=9"],
        ["--set=backoffLimit=1"],
        ["--set=excludeProtected=true"],
        ["--set=hyperparameters.epochs=3"],
        ["--set=search.trials=2"],
        ["--kube-version=1.20"],
    ):
        documents = render("training/ci/default-values.yaml", *options)
        (job,) = [document for document in documents if document["kind"] == "Job"]
        assert specs.setdefault(job["metadata"]["name"], json.dumps(job["spec"])) == json.dumps(job["spec"])
    assert len(specs) == 7


@pytest.mark.parametrize(("version", "indexed"), [("1.20", False), ("1.22", True), ("1.33", True)])
def test_a_search_is_an_indexed_job_where_there_are_such(version: str, indexed: bool) -> None:
    documents = render("training/ci/search-values.yaml", "--kube-version", version)
    (spec,) = [document["spec"] for document in documents if document["kind"] == "Job"]
    assert (spec.get("completionMode"), spec.get("completions"), spec.get("parallelism")) == (
        ("Indexed", 4, 4) if indexed else (None, None, None)
    )
    pod = spec["template"]["spec"]
    assert ("persistentVolumeClaim" in str(pod["volumes"])) is not indexed
    (container,) = pod["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["TRAINER_STUDY_STORAGE"]["value"] == "postgresql+psycopg2://postgres:5432/"
    assert environment["PGPASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "postgres-credentials"
    assert {"--exclude-protected", "--learning-rate=0.002", "--allow-contract-change", "--trials=40"} <= set(
        container["args"]
    )


def test_the_trainer_understands_all_arguments_that_the_chart_gives_it() -> None:
    documents = render("training/ci/search-values.yaml")
    (spec,) = [document["spec"] for document in documents if document["kind"] == "Job"]
    settings = parse(spec["template"]["spec"]["containers"][0]["args"], {})
    assert settings.exclude_protected
    assert settings.hyperparameters.hidden == (64, 64)
    assert settings.limits.minimum_auc == 0.8
    schema = json.loads((CHARTS / "training/values.schema.json").read_text())["properties"]
    for values, known in (("hyperparameters", Hyperparameters), ("gates", GateLimits)):
        flags = {re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name) for name in schema[values]["properties"]}
        assert flags == {field.name for field in fields(known)}


def test_only_the_ways_that_the_stack_uses_are_open() -> None:
    ways = {
        (peer["podSelector"]["matchLabels"].get("app.kubernetes.io/name", "client"), policy["metadata"]["name"])
        for policy in render("credit-risk/ci/default-values.yaml")
        if policy["kind"] == "NetworkPolicy"
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        if "podSelector" in peer
    }
    assert ways == {
        ("api", "mlflow"),
        ("training", "mlflow"),
        ("operator", "mlflow"),
        ("mlflow", "operator"),
        ("operator", "scoring"),
        ("api", "scoring"),  # stable pods pass requests on to the canary
        ("mlflow", "postgres"),
        ("training", "postgres"),
        ("mlflow", "minio"),
        ("training", "minio"),
        ("client", "scoring"),
    }


def test_management_is_not_reachable_through_service_or_ingress() -> None:
    documents = render("api/ci/autoscaled-values.yaml")
    (service,) = [document for document in documents if document["kind"] == "Service"]
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


def test_a_key_is_made_and_the_service_gets_its_hash_alone() -> None:
    documents = render("credit-risk/ci/default-values.yaml")
    secrets = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "Secret"}
    key = base64.b64decode(secrets["scoring-api-key"]["key"])
    assert len(key) == 43
    assert base64.b64decode(secrets["scoring-access"]["default"]).decode() == hashlib.sha256(key).hexdigest()
    spec = next(pod_spec(d) for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "scoring")
    assert "scoring-api-key" not in yaml.safe_dump(spec)
    assert {"name": "access", "secret": {"secretName": "scoring-access"}} in spec["volumes"]
    assert {"name": "SCORER_ACCESS_MODE", "value": "apiKeys"} in spec["containers"][0]["env"]


@pytest.mark.parametrize(
    ("scenario", "mode", "secret"),
    [("autoscaled", "apiKeys", "our-clients"), ("oidc", "oidc", None), ("plain", "none", None)],
)
def test_no_key_is_made_where_none_is_needed(scenario: str, mode: str, secret: str | None) -> None:
    documents = render(f"api/ci/{scenario}-values.yaml")
    assert not [document for document in documents if document["kind"] == "Secret"]
    spec = next(pod_spec(document) for document in documents if document["kind"] == "Deployment")
    assert {"name": "SCORER_ACCESS_MODE", "value": mode} in spec["containers"][0]["env"]
    mounted = [volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "access"]
    assert mounted == ([secret] if secret else [])


def test_the_service_understands_its_settings_as_the_chart_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render("api/ci/autoscaled-values.yaml")
    spec = next(pod_spec(document) for document in documents if document["kind"] == "Deployment")
    for variable in spec["containers"][0]["env"]:
        if "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"])
    settings = ScorerSettings()
    assert (settings.base_points, settings.base_odds, settings.pdo) == (700.5, 20, 40)
    assert settings.audit_log
    assert settings.access_mode == "apiKeys"
    named = {variable["name"] for variable in spec["containers"][0]["env"]}
    assert named <= {f"SCORER_{name.upper()}" for name in ScorerSettings.model_fields}


def test_local_clusters_alone_are_open() -> None:
    for cluster in ("embedded", "kind"):
        values = yaml.safe_load((REPOSITORY / "cluster" / cluster / "values.yaml").read_text())
        assert values["api"]["access"] == {"mode": "none"}
    assert yaml.safe_load((CHARTS / "api" / "values.yaml").read_text())["access"]["mode"] == "apiKeys"


def test_tls_is_ended_at_the_ingress_where_values_say_so() -> None:
    (ingress,) = [d for d in render("api/ci/autoscaled-values.yaml") if d["kind"] == "Ingress"]
    assert ingress["spec"]["tls"] == [{"hosts": ["score.example.org"], "secretName": "score-tls"}]
    assert ingress["spec"]["rules"][0]["host"] == "score.example.org"
    (open_one,) = [d for d in render("api/ci/default-values.yaml") if d["kind"] == "Ingress"]
    assert "tls" not in open_one["spec"]
