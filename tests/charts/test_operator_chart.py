"""The operator's chart: one pod with few permissions, and a CRD that outlives the release."""

from __future__ import annotations

from charts.rendering import Document, of_kind, render_chart, run_helm


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
