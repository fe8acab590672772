"""Names of Services and pods: what CoreDNS makes of the EndpointSlices that the embedded cluster's Kubernetes writes.

The parts are the real ones, as the node starts them, without the kubelet: the tests write the pods' status themselves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from localcluster import packages
from localcluster.console import wait_for
from localcluster.embedded import binaries, config
from localcluster.embedded.cluster import ADDONS, MODULE
from localcluster.embedded.node import Plan
from localcluster.paths import REPOSITORY, Paths
from processes import running

# `tests/e2e/test_names.py` asks in a pod of the whole cluster; these are its faults.
pytestmark = [pytest.mark.slow, pytest.mark.soak]

PARTS = {"etcd", "kube-apiserver", "kube-controller-manager", "coredns"}
# A killed part starts again after a second, and CoreDNS keeps answers for five; the machine may be busy.
PATIENCE_SECONDS = 120
Document = dict[str, Any]
NODE: Document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": config.NODE}}


@dataclass(frozen=True)
class ControlPlane:
    """The node's parts without a kubelet, in namespaces of their own."""

    first_process: int
    kubectl_program: Path
    folder: Path

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as the administrator; `text` is its standard input."""
        command = [str(self.kubectl_program), f"--kubeconfig={self.folder}/node/kubeconfig", *arguments]
        done = subprocess.run([*self._inside(), *command], input=text, capture_output=True, text=True)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *documents: Document, subresource: str = "") -> None:
        """Create or change objects, or a subresource of each."""
        text = "\n---\n".join(map(json.dumps, documents))
        self.kubectl("apply", "--server-side", f"--subresource={subresource}", "--filename=-", text=text)

    def resolve(self, name: str, namespace: str) -> set[str]:
        """Return the IPv4 addresses of a name as a pod of a namespace resolves it, none if there is no answer."""
        resolver = self.folder / f"{namespace}.resolv.conf"
        search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
        resolver.write_text(f"nameserver {config.ADDRESS}\nsearch {search}\noptions ndots:5 timeout:2 attempts:1\n")
        script = 'mount --bind "$0" /etc/resolv.conf && exec getent ahostsv4 "$1"'
        command = [*self._inside(), "unshare", "--mount", "sh", "-c", script, str(resolver), name]
        done = subprocess.run(command, capture_output=True, text=True)
        # getent's code for a name that it does not find.
        assert done.returncode in {0, 2}, done.stderr
        return {line.split()[0] for line in done.stdout.splitlines()}

    def kill(self, part: str) -> None:
        """Kill a part, which the first process starts again."""
        children = Path(f"/proc/{self.first_process}/task/{self.first_process}/children").read_text().split()
        (pid,) = (int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == part[:15])
        os.kill(pid, signal.SIGKILL)

    def problem(self) -> str | None:
        """Return why the API server does not answer, None if it does."""
        try:
            self.kubectl("get", "--raw=/readyz", "--request-timeout=5s")
        except AssertionError as error:
            return str(error)
        return None

    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.first_process}/ns/net"]


@dataclass(frozen=True)
class Namespace:
    """A namespace with pods that run nowhere."""

    control_plane: ControlPlane
    name: str

    def create(self, *documents: Document) -> None:
        """Create objects, and say of the pods what a kubelet would say."""
        named = [{**item, "metadata": {**item["metadata"], "namespace": self.name}} for item in documents]
        self.control_plane.apply(*named)
        self.control_plane.apply(*(item for item in named if "status" in item), subresource="status")

    def delete_pod(self, name: str) -> None:
        """Delete a pod as a kubelet does once its containers have ended."""
        self.control_plane.kubectl(
            "delete", "pod", name, f"--namespace={self.name}", "--force", "--grace-period=0", "--wait=false"
        )

    def await_addresses(self, name: str, *addresses: str) -> None:
        """Wait until a name has exactly these addresses for the namespace's pods."""

        def problem() -> str | None:
            found = self.control_plane.resolve(name, self.name)
            return None if found == set(addresses) else f"it has the addresses {sorted(found)}"

        wait_for(f"the name {name} with {addresses}", problem, timeout_seconds=PATIENCE_SECONDS)


def headless(name: str, **spec: object) -> Document:
    """Return a headless Service for the pods with the label `app` of the same value."""
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    body = {"clusterIP": "None", "selector": {"app": name}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def pod(name: str, address: str, app: str, *, ready: bool = True, **spec: str) -> Document:
    """Return a pod on the node, with its status."""
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": config.NODE, "containers": [{"name": "main", "image": "none"}], **spec},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions},
    }  # fmt: skip


def peer(name: str, address: str, *, ready: bool = True, subdomain: str = "peers") -> Document:
    """Return a pod of the Service `peers` with a host name, as one of a training or of a StatefulSet has it."""
    return pod(name, address, "peers", ready=ready, hostname=name, subdomain=subdomain)


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start the parts as the node does, with their RBAC."""
    folder = tmp_path_factory.mktemp("control-plane")
    paths = replace(Paths.from_environment(), state=folder)
    if os.geteuid() != 0 or not binaries.kubernetes_folder(paths).exists():
        pytest.skip("needs root and the Kubernetes that `make up` compiles for the embedded cluster")
    paths.logs.mkdir()
    packages.install_tools(paths, paths.logs / "tools.log")
    plan = folder / "node.json"
    _plan(paths).save(plan)
    namespaces = ["--pid", "--fork", "--mount-proc", "--mount", "--net", "--ipc", "--uts", "--kill-child"]
    command = ["unshare", *namespaces, sys.executable, "-m", MODULE, str(plan)]
    status = folder / "node-status.json"
    sources = str(REPOSITORY / "cluster" / "src")
    with running(command, paths.logs / "node.log", status.exists, PYTHONPATH=sources) as unshare:
        first = int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text())
        found = ControlPlane(first, paths.tools / "kubectl", folder)
        wait_for("the API server", found.problem, timeout_seconds=PATIENCE_SECONDS, log=paths.logs)
        found.kubectl("apply", f"--filename={ADDONS}")
        found.apply(NODE)
        yield found


def _plan(paths: Paths) -> Plan:
    layout = config.Layout(paths.state / "node")
    api = config.Forward("api", config.API_PORT, -1, config.API_PORT)
    absent = paths.state / "containerd"
    every = config.Configuration(layout, binaries.provide(paths), [api], absent, absent, "none").components()
    return Plan(
        hostname=config.NODE, address=config.ADDRESS, logs=str(paths.logs), status=f"{paths.state}/node-status.json",
        binds={}, inherited_fds=[], components=[part for part in every if part.name in PARTS],
    )  # fmt: skip


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Namespace:
    """A new namespace."""
    name = f"names-{uuid.uuid4().hex[:8]}"
    # Pods need one, and without a token none has to be made first.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name},
               "automountServiceAccountToken": False}  # fmt: skip
    control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, account)
    return Namespace(control_plane, name)


def test_a_headless_service_has_the_addresses_of_its_ready_pods(namespace: Namespace) -> None:
    starting = pod("web-starting", "10.244.1.3", "web", ready=False)
    namespace.create(headless("web"), pod("web-a", "10.244.1.1", "web"), pod("web-b", "10.244.1.2", "web"), starting)
    namespace.await_addresses("web", "10.244.1.1", "10.244.1.2")
    namespace.await_addresses(f"web.{namespace.name}.svc", "10.244.1.1", "10.244.1.2")
    namespace.await_addresses(f"web.{namespace.name}.svc.cluster.local.", "10.244.1.1", "10.244.1.2")


def test_pods_that_are_not_ready_have_names_where_the_service_says_so(namespace: Namespace) -> None:
    namespace.create(headless("peers", publishNotReadyAddresses=True), peer("rank-0", "10.244.2.1", ready=False))
    namespace.await_addresses("peers", "10.244.2.1")
    namespace.await_addresses("rank-0.peers", "10.244.2.1")


def test_a_pod_has_its_host_name_under_the_service_that_is_its_subdomain(namespace: Namespace) -> None:
    elsewhere = peer("rank-2", "10.244.3.3", subdomain="elsewhere")
    namespace.create(headless("peers"), peer("rank-0", "10.244.3.1"), peer("rank-1", "10.244.3.2"), elsewhere)
    namespace.await_addresses("peers", "10.244.3.1", "10.244.3.2", "10.244.3.3")
    namespace.await_addresses("rank-0.peers", "10.244.3.1")
    namespace.await_addresses(f"rank-1.peers.{namespace.name}.svc.cluster.local", "10.244.3.2")
    namespace.await_addresses("rank-2.peers")


def test_names_follow_pods_that_go_and_come_back_elsewhere(namespace: Namespace) -> None:
    namespace.create(headless("peers"), peer("rank-0", "10.244.4.1"), peer("rank-1", "10.244.4.2"))
    namespace.await_addresses("peers", "10.244.4.1", "10.244.4.2")
    namespace.await_addresses("rank-1.peers", "10.244.4.2")
    namespace.delete_pod("rank-1")
    namespace.await_addresses("peers", "10.244.4.1")
    namespace.await_addresses("rank-1.peers")
    namespace.create(peer("rank-1", "10.244.4.3"))
    namespace.await_addresses("rank-1.peers", "10.244.4.3")


def test_names_of_a_deleted_namespace_are_gone(namespace: Namespace) -> None:
    namespace.create(headless("peers"), peer("rank-0", "10.244.5.1"))
    namespace.await_addresses("rank-0.peers", "10.244.5.1")
    namespace.control_plane.kubectl("delete", "namespace", namespace.name, "--wait=false")
    namespace.await_addresses("peers")
    namespace.await_addresses("rank-0.peers")
    namespace.await_addresses("kubernetes.default", config.API_SERVICE)


@pytest.mark.parametrize("part", ["coredns", "kube-apiserver"])
def test_names_follow_the_pods_after_a_part_was_killed(namespace: Namespace, part: str) -> None:
    namespace.create(headless("web"), pod("web-a", "10.244.6.1", "web"))
    namespace.await_addresses("web", "10.244.6.1")
    namespace.control_plane.kill(part)
    wait_for("the API server", namespace.control_plane.problem, timeout_seconds=PATIENCE_SECONDS)
    namespace.delete_pod("web-a")
    namespace.create(pod("web-b", "10.244.6.2", "web"))
    namespace.await_addresses("web", "10.244.6.2")
