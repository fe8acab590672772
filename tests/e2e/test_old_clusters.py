"""The charts on the oldest Kubernetes that they promise: its schema and its admission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from charts.rendering import SCENARIOS, render
from localcluster.console import output
from localcluster.stack import Cluster, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# Published as plain strings, written as numbers as well.
LOOSE = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> dict[str, Any]:
    """Every type that the running API server serves, with unknown fields refused."""
    document = json.loads(output([*Stack(cluster).kubectl_command(), "get", "--raw", "/openapi/v2"],
                                 env=Stack(cluster).environment()))  # fmt: skip
    found: dict[str, Any] = document["definitions"] | LOOSE
    for definition in found.values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def version(cluster: Cluster) -> str:
    stack = Stack(cluster)
    return str(json.loads(stack.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_fits_the_schema_of_the_running_api_server(
    scenario: str, definitions: dict[str, Any], version: str
) -> None:
    for document in render(scenario, "--kube-version", version):
        name = _type_of(document, definitions)
        jsonschema.Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": definitions}).validate(document)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_running_api_server_admits_every_scenario(
    scenario: str, cluster: Cluster, version: str, tmp_path: Path
) -> None:
    file = tmp_path / "rendered.json"
    items = [document for document in render(scenario, "--kube-version", version) if document["kind"] != "Pod"]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [_placed(item) for item in items]}))
    Stack(cluster, namespace="default").kubectl(
        "apply", "--dry-run=server", "--validate=false", "--filename", str(file)
    )


def _placed(document: dict[str, Any]) -> dict[str, Any]:
    document = json.loads(json.dumps(document))
    document["metadata"].pop("namespace", None)
    return document


def _type_of(document: dict[str, Any], definitions: dict[str, Any]) -> str:
    group, _, version = document["apiVersion"].rpartition("/")
    wanted = {"group": group, "version": version, "kind": document["kind"]}
    names = [name for name, body in definitions.items() if wanted in body.get("x-kubernetes-group-version-kind", [])]
    assert names, f"the API server knows no {document['kind']} of {document['apiVersion']}"
    return names[0]
