"""What the charts and the local clusters open to the network is what docs/security.md lists, and nothing else."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
import yaml

from charts.rendering import POD_OWNERS, SCENARIOS, containers, of_kind, pod_spec, pod_template, render
from conftest import REPOSITORY
from localcluster.ports import Ports
from open_ports import documented_ports

Document = dict[str, Any]


def part_of(document: Document) -> str:
    return str(document["metadata"]["labels"]["app.kubernetes.io/name"])


def container_ports(documents: list[Document]) -> set[tuple[str, int]]:
    return {
        (part_of(document), port["containerPort"])
        for document in documents
        if document["kind"] in POD_OWNERS
        for container in containers(pod_template(document))
        for port in container.get("ports", [])
    }


def ways_in(documents: list[Document]) -> set[tuple[str, str]]:
    """Return the Services and Ingresses, as the table names them, by the part that they lead to."""
    services = {
        (part_of(service), f"Service {service['metadata']['name']} {port['port']}")
        for service in of_kind(documents, "Service")
        for port in service["spec"]["ports"]
    }
    return services | {
        (part_of(found), f"Ingress {found['metadata']['name']}") for found in of_kind(documents, "Ingress")
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_port_a_service_or_an_ingress_that_is_not_documented_is_not_rendered(scenario: str) -> None:
    documents, known = render(scenario), documented_ports()
    assert container_ports(documents) <= set(known)
    listed = {
        (part, re.sub(r" \(.*\)", "", way)) for (part, _), reached in known.items() for way in reached.split(", ")
    }
    assert ways_in(documents) <= listed
    for service in of_kind(documents, "Service"):
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert not {"externalIPs", "externalName"} & set(service["spec"])
    for document in documents:
        if document["kind"] in POD_OWNERS:
            assert not pod_spec(document).get("hostNetwork")
            assert "hostPort" not in yaml.safe_dump(document)


def test_everything_that_is_documented_exists() -> None:
    documents = [document for scenario in SCENARIOS for document in render(scenario)]
    rendered = container_ports(documents)
    missing = {port: reached for port, reached in documented_ports().items() if port not in rendered}
    # Its server opens this port by itself: the end-to-end test finds it.
    assert missing == {("seaweedfs", 18333): "no Service"}


def test_the_local_clusters_open_the_documented_ports_of_the_loopback_address() -> None:
    text = (REPOSITORY / "docs/security.md").read_text()
    listed = {
        variable: int(port) for port, variable in re.findall(r"^\| (\d+) \| .* \| `(\w+)` \|$", text, re.MULTILINE)
    }
    assert listed == Ports().variables()
    assert len(listed) == len(fields(Ports))
    traefik = (REPOSITORY / "cluster/kind/traefik.yaml").read_text()
    assert {int(port) for port in re.findall(r"hostPort: (\d+)", traefik)} <= set(listed.values())
