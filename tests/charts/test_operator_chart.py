"""The operator's chart: one pod with few rights, and a definition that outlives it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "operator"
HELM = shutil.which("helm") or ""
Document = dict[str, Any]
pytestmark = pytest.mark.skipif(not HELM, reason="helm is not on the PATH; `make tools` fetches it")


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its dependency in place, so that nothing in the repository changes."""
    folder = tmp_path_factory.mktemp("charts")
    for name in ("common", "operator"):
        shutil.copytree(CHART.parent / name, folder / name, ignore=shutil.ignore_patterns("charts", "*.lock"))
    subprocess.run([HELM, "dependency", "build", folder / "operator"], check=True, capture_output=True)
    return folder / "operator"


def render(chart: Path, *arguments: str, kube: str = "1.34.0") -> list[Document]:
    command = [HELM, "template", "r", str(chart), "--namespace", "bank", "--kube-version", kube, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def test_the_definition_is_kept_and_loses_its_rules_only_for_old_clusters(chart: Path) -> None:
    for kube, ruled in (("1.20.0", False), ("1.34.0", True)):
        (crd,) = of_kind(render(chart, kube=kube), "CustomResourceDefinition")
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        assert ("x-kubernetes-validations" in spec) == ruled
        assert spec["properties"]["steps"]["maxItems"] == 20


def test_one_pod_at_a_time_hardened(chart: Path) -> None:
    (deployment,) = of_kind(render(chart), "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]


def test_rights_are_namespaced_and_name_every_verb(chart: Path) -> None:
    documents = render(chart, "--values", str(chart / "ci" / "namespaces-values.yaml"))
    assert not of_kind(documents, "ClusterRole")
    roles = of_kind(documents, "Role")
    assert [role["metadata"]["namespace"] for role in roles] == ["lending", "cards"]
    rules = [rule for role in roles for rule in role["rules"]]
    assert not [rule for rule in rules if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]]
    assert not [rule for rule in rules if "secrets" in rule["resources"]]
    for binding in of_kind(documents, "RoleBinding"):
        assert binding["subjects"][0]["namespace"] == "bank"


def test_an_unknown_value_is_refused(chart: Path) -> None:
    command = [HELM, "template", "r", str(chart), "--set", "polSeconds=3"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "polSeconds" in done.stderr
