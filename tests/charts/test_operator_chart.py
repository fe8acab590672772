"""The operator's chart: one pod with few permissions, and a CRD that outlives the release."""

from __future__ import annotations

from charts.rendering import Document, environment, of_kind, pod_spec, render_chart, run_helm
from charts.rendering import render as render_scenario


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


def timeline(*options: str, scenario: str = "operator/ci/default-values.yaml") -> tuple[str | None, str | None]:
    """Return the URL and the Secret that the operator reports to the timeline with."""
    (deployment,) = [d for d in of_kind(render_scenario(scenario, *options), "Deployment")
                     if d["metadata"]["name"] == "operator"]  # fmt: skip
    (container,) = pod_spec(deployment)["containers"]
    variables = environment(container)
    volumes = {volume["name"]: volume for volume in pod_spec(deployment)["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert ("timeline" in mounts) == ("timeline" in volumes) == ("PROMOTER_TIMELINE_KEY_FILE" in variables)
    if "timeline" not in volumes:
        return variables.get("PROMOTER_TIMELINE_URL"), None
    assert variables["PROMOTER_TIMELINE_KEY_FILE"] == f"{mounts['timeline']}/key"
    secret = volumes["timeline"]["secret"]
    assert secret["optional"], "an operator without a key still rolls out"
    return variables.get("PROMOTER_TIMELINE_URL"), secret["secretName"]


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
