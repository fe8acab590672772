"""Names of a headless Service's pods on a cluster: a pod finds the others by them, and they follow the pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster.cluster import Cluster
from localcluster.console import wait_for
from localcluster.images import OPERATOR
from localcluster.namespace import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMESPACE = "e2e-names"
SERVICE = "peers"
# Looks the names up. A pod of the Service has its own name in /etc/hosts.
CLIENT = "client"
# CoreDNS keeps answers for seconds, and a busy machine takes long to start pods.
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    """An image that the cluster has; the pods only sleep and look names up."""
    return cluster.images((OPERATOR,))[OPERATOR.name]


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A namespace with a headless Service."""
    found = Namespace(cluster, NAMESPACE)
    found.kubectl("create", "namespace", NAMESPACE)
    try:
        found.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        found.create(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE},
             "spec": {"clusterIP": "None", "selector": {"app": SERVICE}, "ports": [{"name": "http", "port": 8080}]}}
        )  # fmt: skip
        yield found
    finally:
        found.kubectl("delete", "namespace", NAMESPACE)


def test_a_pod_finds_the_pods_of_a_headless_service_and_their_names_follow_them(
    namespace: Namespace, image: str
) -> None:
    start(namespace, image, CLIENT, app=CLIENT)
    addresses = {name: start(namespace, image, name) for name in ("rank-0", "rank-1")}
    await_addresses(namespace, SERVICE, *addresses.values())
    for name, address in addresses.items():
        await_addresses(namespace, f"{name}.{SERVICE}", address)
        await_addresses(namespace, f"{name}.{SERVICE}.{NAMESPACE}.svc.cluster.local", address)

    namespace.kubectl("delete", "pod", "rank-1", "--timeout=120s")
    await_addresses(namespace, SERVICE, addresses["rank-0"])
    await_addresses(namespace, f"rank-1.{SERVICE}")

    again = start(namespace, image, "rank-1")
    await_addresses(namespace, SERVICE, addresses["rank-0"], again)
    await_addresses(namespace, f"rank-1.{SERVICE}", again)


def start(namespace: Namespace, image: str, name: str, app: str = SERVICE) -> str:
    """Start a pod, of the Service unless told otherwise; return its address once it is ready."""
    spec: dict[str, Any] = {
        "hostname": name, "subdomain": SERVICE, "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": image, "command": ["sleep", "infinity"]}],
    }  # fmt: skip
    namespace.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "spec": spec}
    )
    namespace.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    pod = json.loads(namespace.kubectl("get", "pod", name, "--output=json"))
    return str(pod["status"]["podIP"])


def await_addresses(namespace: Namespace, name: str, *addresses: str) -> None:
    """Wait until a name has exactly these addresses."""

    def problem() -> str | None:
        # Not found is an answer too.
        look_up = ("sh", "-c", 'getent ahosts "$0" || test $? = 2', name)
        lines = namespace.kubectl("exec", CLIENT, "--", *look_up).splitlines()
        found = {line.split()[0] for line in lines}
        return None if found == set(addresses) else f"it has the addresses {sorted(found)}"

    wait_for(f"the name {name} with {addresses}", problem, timeout_seconds=PATIENCE_SECONDS)
