"""The operator's chart: one pod with few permissions, and a CRD that outlives the release."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from charts.rendering import Document, environment, of_kind, pod_spec, render_chart, run_helm
from charts.rendering import render as render_scenario
from promoter.notifications.settings import KINDS, NotificationSettings


def render(*options: str, kube: str = "1.34.0") -> list[Document]:
    return render_chart("operator", "--kube-version", kube, *options)


def test_the_crd_is_kept_and_loses_its_cel_rules_only_on_old_clusters() -> None:
    for kube, has_rules in (("1.20.0", False), ("1.34.0", True)):
        (crd,) = of_kind(render(kube=kube), "CustomResourceDefinition")
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        assert ("x-kubernetes-validations" in spec) == has_rules
        assert spec["properties"]["steps"]["maxItems"] == 20


def test_one_hardened_pod_runs_at_a_time() -> None:
    (deployment,) = of_kind(render(), "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]


def test_permissions_are_namespaced_and_list_every_verb() -> None:
    documents = render("--values", "operator/ci/namespaces-values.yaml")
    assert not of_kind(documents, "ClusterRole")
    roles = of_kind(documents, "Role")
    # The Lease is in the release's own namespace.
    assert [role["metadata"].get("namespace") for role in roles] == [None, "lending", "cards"]
    rules = [rule for role in roles for rule in role["rules"]]
    assert not [rule for rule in rules if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]]
    assert not [rule for rule in rules if "secrets" in rule["resources"]]
    autoscalers = [rule for rule in rules if "autoscaling" in rule["apiGroups"]]
    assert [(rule["resources"], rule["verbs"]) for rule in autoscalers] == [
        (["horizontalpodautoscalers"], ["list", "patch"])] * 2  # fmt: skip
    for binding in of_kind(documents, "RoleBinding"):
        assert binding["subjects"][0]["namespace"] == "ns"


def test_a_misspelled_value_is_rejected_by_name() -> None:
    result = run_helm("template", "release", "operator", "--set", "polSeconds=3")
    assert result.returncode != 0
    assert "polSeconds" in result.stderr


def operator_of(scenario: str, *options: str) -> Document:
    """Return the operator's Deployment of a rendered scenario."""
    deployments = of_kind(render_scenario(scenario, *options), "Deployment")
    (found,) = [deployment for deployment in deployments if deployment["metadata"]["name"] == "operator"]
    return found


def timeline(
    *options: str, scenario: str = "operator/ci/default-values.yaml", purpose: str = "TIMELINE"
) -> tuple[str | None, str | None]:
    """Return the URL and the Secret with which the operator reports to the timeline, or asks for CHECKS or DRIFT."""
    deployment = operator_of(scenario, *options)
    (container,) = pod_spec(deployment)["containers"]
    variables = environment(container)
    volumes = {volume["name"]: volume for volume in pod_spec(deployment)["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert ("decisions" in mounts) == ("decisions" in volumes) == any(
        f"PROMOTER_{use}_KEY_FILE" in variables for use in ("TIMELINE", "CHECKS", "DRIFT"))  # fmt: skip
    if f"PROMOTER_{purpose}_KEY_FILE" not in variables:
        return variables.get(f"PROMOTER_{purpose}_URL"), None
    assert variables[f"PROMOTER_{purpose}_KEY_FILE"] == f"{mounts['decisions']}/key"
    secret = volumes["decisions"]["secret"]
    assert secret["optional"], "an operator without a key still rolls out"
    return variables.get(f"PROMOTER_{purpose}_URL"), secret["secretName"]


def test_the_timeline_is_off_unless_there_is_a_service_to_report_to() -> None:
    assert timeline() == (None, None)
    assert timeline(scenario="credit-risk/ci/default-values.yaml") == (None, None)
    own = ("http://decisions:8080", "decisions-operator-key")
    assert timeline(scenario="credit-risk/ci/decisions-values.yaml") == own
    off = "--set=operator.timeline.enabled=false"
    assert timeline(off, scenario="credit-risk/ci/decisions-values.yaml") == (None, None)
    other = "--set=operator.timeline.url=https://decisions.lender.example"
    assert timeline(other, scenario="credit-risk/ci/decisions-values.yaml") == (
        "https://decisions.lender.example", "decisions-operator-key")  # fmt: skip
    assert timeline("--set=timeline.url=http://elsewhere,timeline.secret=") == ("http://elsewhere", None)
    assert timeline("--set=timeline=null") == (None, None), "as releases before 0.2 had it"


def notified(*options: str, scenario: str = "operator/ci/notifications-values.yaml") -> tuple[Document, Document]:
    """Return the settings of notifications, and the Secret and key behind each mounted file."""
    deployment = operator_of(scenario, *options)
    (container,) = pod_spec(deployment)["containers"]
    volumes = {volume["name"]: volume for volume in pod_spec(deployment)["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert ("notifications" in mounts) == ("notifications" in volumes)
    files = {}
    if "notifications" in volumes:
        assert mounts["notifications"]["readOnly"]
        for source in (source["secret"] for source in volumes["notifications"]["projected"]["sources"]):
            assert source["optional"], "without its Secret, the operator starts and rolls out"
            (item,) = source["items"]
            path = f"{mounts['notifications']['mountPath']}/{item['path']}"
            files[path] = f"{source['name']}/{item['key']}"
    return json.loads(environment(container).get("PROMOTER_NOTIFICATIONS", "{}")), files


def test_receivers_get_addresses_and_passwords_from_files_of_secrets() -> None:
    found, files = notified()
    settings = NotificationSettings.model_validate(found)
    slack, events, email = settings.slack, settings.cloud_events, settings.email
    assert slack and events and email  # noqa: PT018 - for mypy
    assert events.token_file and email.username_file and email.password_file  # noqa: PT018
    assert {str(path): files[str(path)] for path in (slack.url_file, events.url_file, events.token_file)} == {
        "/etc/creditrisk/notifications/slack/url": "chat/webhook",
        "/etc/creditrisk/notifications/cloud-events/url": "event-bus/address",
        "/etc/creditrisk/notifications/cloud-events/token": "event-bus/token",
    }
    assert files[str(email.username_file)] == "mail-account/username"
    assert files[str(email.password_file)] == "mail-account/password"
    assert len(files) == 5
    assert (events.mode, email.port, email.security) == ("binary", 465, "tls")
    assert email.to == ("risk@example.org", "ML team <ml@example.org>")
    assert set(slack.events) == {"RolledBack", "Degraded"}
    assert set(settings.events) == {"Promoted", "RolledBack", "WaitingForPerson"}
    assert (settings.cluster, settings.links.mlflow) == ("eu-1", "https://mlflow.example.org")


def test_nobody_is_told_anything_unless_there_is_a_receiver() -> None:
    default = "operator/ci/default-values.yaml"
    assert notified(scenario=default) == ({}, {})
    assert notified("--set=notifications=null", scenario=default) == ({}, {}), "as releases before 0.2 had it"
    old = [f"--set=notifications.{key}=null" for key in ("events", "cluster", "links", "cloudEvents", "email")]
    reused, files = notified(*old, "--set=notifications.slack.existingSecret=s", scenario=default)
    assert NotificationSettings.model_validate(reused).events == KINDS, "of a release that had no such values"
    assert list(files.values()) == ["s/url"]
    assert notified("--set=notifications.email.existingSecret=s", scenario=default) == ({}, {})
    whole = notified(
        "--set=operator.notifications.slack.existingSecret=chat", scenario="credit-risk/ci/default-values.yaml"
    )
    assert list(whole[1].values()) == ["chat/url"]
    open_receiver, files = notified("--set=notifications.cloudEvents.url=http://broker/ns", scenario=default)
    assert files == {}
    settings = NotificationSettings.model_validate(open_receiver)
    assert settings.events == KINDS, "of everything"
    assert settings.cloud_events
    assert settings.cloud_events.url == "http://broker/ns"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["cloudEvents.url=http://b", "cloudEvents.urlKey=k", "cloudEvents.existingSecret=s"],
            "url or urlKey, not both",
        ),
        (["cloudEvents.url=http://b", "cloudEvents.tokenKey=k"], "existingSecret, which is not set"),
        (["email.host=mail", "email.from=a@b.test"], "from and to are needed"),
        (["email.host=m", "email.from=a@b", "email.to={c@d}", "email.security=none", "email.existingSecret=s"], "TLS"),
        (["events={WeightChanged}"], "RolloutStarted"),
        (["email.to={nobody}"], "pattern"),
    ],
)
def test_receivers_that_cannot_work_are_rejected(options: list[str], words: str) -> None:
    result = run_helm("template", "release", "operator", *(f"--set=notifications.{option}" for option in options))
    assert result.returncode != 0
    assert words in result.stderr


def page_of(*options: str) -> tuple[dict[str, str], set[str], list[Document]]:
    """Return the page's settings, the Secrets that the operator mounts, and everything that is rendered."""
    documents = render(*options)
    (deployment,) = of_kind(documents, "Deployment")
    (container,) = pod_spec(deployment)["containers"]
    settings = {name: value for name, value in environment(container).items() if name.startswith("PROMOTER_PAGE_")}
    mounted = {volume["secret"]["secretName"] for volume in pod_spec(deployment)["volumes"] if "secret" in volume}
    return settings, mounted, documents


def test_there_is_no_page_unless_it_is_asked_for() -> None:
    settings, mounted, documents = page_of()
    assert (settings, mounted) == ({}, set())
    assert not of_kind(documents, "Ingress")
    assert not of_kind(documents, "Secret")
    (service,) = of_kind(documents, "Service")
    assert [port["name"] for port in service["spec"]["ports"]] == ["http"]


def test_the_page_asks_for_a_key_of_which_the_operator_gets_the_hash_alone() -> None:
    settings, mounted, documents = page_of("--set=page.enabled=true")
    assert settings["PROMOTER_PAGE_ACCESS"] == "apiKeys"
    assert mounted == {"operator-page-access"}
    secrets = {secret["metadata"]["name"]: secret["data"] for secret in of_kind(documents, "Secret")}
    key = base64.b64decode(secrets["operator-page-key"]["key"])
    assert base64.b64decode(secrets["operator-page-access"]["default"]).decode() == hashlib.sha256(key).hexdigest()


def test_the_page_takes_keys_of_another_secret_and_is_open_only_if_that_is_said() -> None:
    _, mounted, documents = page_of("--set=page.enabled=true", "--set=page.access.secret=scoring-access")
    assert mounted == {"scoring-access"}
    assert not of_kind(documents, "Secret")
    settings, mounted, documents = page_of("--set=page.enabled=true", "--set=page.access.mode=none")
    assert (settings["PROMOTER_PAGE_ACCESS"], mounted) == ("none", set())
    assert not of_kind(documents, "Secret")


def test_the_ingress_leads_to_the_page_and_not_to_the_metrics() -> None:
    settings, _, documents = page_of("--values", "operator/ci/page-values.yaml")
    (ingress,) = of_kind(documents, "Ingress")
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["path"] == settings["PROMOTER_PAGE_PATH"] == "/lending/promotions"
    assert path["backend"]["service"] == {"name": "operator", "port": {"name": "page"}}
    (service,) = of_kind(documents, "Service")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {"http": 8080, "page": int(settings["PROMOTER_PAGE_PORT"])}
    (policy,) = of_kind(documents, "NetworkPolicy")
    (peers,) = [entry["from"] for entry in policy["spec"]["ingress"] if entry["ports"] == [{"port": "page"}]]
    assert peers == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]


def test_a_path_of_the_scoring_service_is_refused_for_the_page() -> None:
    for path in ("/v1/promotions", "/docs", "/", "promotions"):
        result = run_helm("template", "release", "operator", "--set=page.enabled=true", f"--set=page.path={path}")
        assert result.returncode != 0
        assert "page.path" in result.stderr.replace("/page/path", "page.path")


@pytest.mark.parametrize("purpose", ["CHECKS", "DRIFT"])
def test_checks_and_drift_need_a_service_and_are_on_or_off_whatever_the_timeline_is(purpose: str) -> None:
    decisions, values = "credit-risk/ci/decisions-values.yaml", f"operator.{purpose.lower()}"
    own = ("http://decisions:8080", "decisions-operator-key")
    assert timeline(purpose=purpose) == (None, None)
    assert timeline(scenario=decisions, purpose=purpose) == own
    assert timeline("--set=operator.timeline.enabled=false", scenario=decisions, purpose=purpose) == own
    off = f"--set={values}.enabled=false"
    assert timeline(off, scenario=decisions, purpose=purpose) == (None, None)
    assert timeline(off, scenario=decisions) == own
    assert timeline(f"--set={values}=null", scenario=decisions, purpose=purpose) == own, "values of 0.1"


def test_only_an_operator_that_may_retrain_creates_jobs_and_reads_the_named_templates() -> None:
    def batch(*options: str) -> list[dict[str, object]]:
        (role,) = [role for role in of_kind(render_scenario("operator/ci/default-values.yaml", *options), "Role")
                   if role["metadata"]["name"] == "model-promotion-operator"]  # fmt: skip
        return [rule for rule in role["rules"] if rule["apiGroups"] == ["batch"]]

    assert batch() == []
    for scenario, expected in (("default", None), ("retraining", "true")):
        (container,) = pod_spec(operator_of(f"operator/ci/{scenario}-values.yaml"))["containers"]
        assert environment(container).get("PROMOTER_RETRAINING") == expected
    templates, jobs = batch("--values", "operator/ci/retraining-values.yaml")
    assert (templates["resourceNames"], templates["verbs"]) == (["retraining", "retraining-monthly"], ["get"])
    assert (jobs["resources"], jobs["verbs"]) == (["jobs"], ["create", "get"])
