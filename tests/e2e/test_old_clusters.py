"""The charts on the oldest Kubernetes that they support: its schemas and its admission."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from charts.rendering import SCENARIOS, render
from localcluster.cluster import Cluster
from localcluster.console import output
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# The API server publishes these types as plain strings, but accepts numbers as well.
LENIENT = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> dict[str, Any]:
    """The schema of every type that the running API server serves, with unknown fields refused."""
    document = json.loads(output([*Stack(cluster).kubectl_command(), "get", "--raw", "/openapi/v2"],
                                 env=Stack(cluster).environment()))  # fmt: skip
    found: dict[str, Any] = document["definitions"] | LENIENT
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
    documents = render(scenario, "--kube-version", version)
    assert documents
    for document in documents:
        name = _type_of(document, definitions)
        validator = jsonschema.Draft7Validator({"$ref": f"#/definitions/{name}", "definitions": definitions})
        errors = [error.message for error in validator.iter_errors(document)]
        assert not errors, f"{name} {document['metadata']['name']}: {errors}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_running_api_server_admits_every_scenario(
    scenario: str, cluster: Cluster, version: str, tmp_path: Path
) -> None:
    file = tmp_path / "rendered.json"
    items = [document for document in render(scenario, "--kube-version", version) if document["kind"] != "Pod"]
    file.write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [_without_namespace(item) for item in items]})
    )
    command = ["apply", "--dry-run=server", "--validate=false", "--filename", str(file)]
    admitted = Stack(cluster, namespace="default").kubectl(*command).splitlines()
    assert len(admitted) == len(items)
    assert all(line.endswith("(server dry run)") for line in admitted), admitted


def _without_namespace(document: dict[str, Any]) -> dict[str, Any]:
    document = json.loads(json.dumps(document))
    document["metadata"].pop("namespace", None)
    return document


def _type_of(document: dict[str, Any], definitions: dict[str, Any]) -> str:
    group, _, version = document["apiVersion"].rpartition("/")
    wanted = {"group": group, "version": version, "kind": document["kind"]}
    names = [name for name, body in definitions.items() if wanted in body.get("x-kubernetes-group-version-kind", [])]
    assert names, f"the API server does not serve {document['kind']} in {document['apiVersion']}"
    return names[0]
