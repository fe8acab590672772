"""CI's access to a cluster and its deploys, with stand-ins for AWS's network and for GitHub alone."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from aws.machine import program
from aws.programs import aws_cli, docker_registry
from aws.stand_ins import PLUGIN, github_tokens, serving
from aws.terraform import client, credentials, moto_server
from conftest import REPOSITORY
from localcluster.embedded.binaries import provide
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import Stack

ACCOUNTS = "e2e-ci"
GROUP = f"system:serviceaccounts:{ACCOUNTS}"


@dataclass(frozen=True)
class NodeRegistry:
    """An OCI registry on the node's loopback address, to which the node's images can be pushed."""

    address: str
    inside: list[str]
    ctr: list[str]
    log: Path

    def push(self, image: str, name: str) -> dict[str, str]:
        """Push one of the node's images and return its repository and digest."""
        repository = f"{self.address}/{name}"
        self._run("images", "tag", "--force", image, f"{repository}:pushed")
        self._run("images", "push", "--plain-http", f"{repository}:pushed")
        listed = [line.split() for line in self._run("images", "list").splitlines()]
        (digest,) = [line[2] for line in listed if line[0] == f"{repository}:pushed"]
        # So that the node has to pull it: images of an earlier run may still be on the node.
        self._run("images", "remove", "--sync", f"{repository}:pushed", f"{repository}@{digest}")
        return {"repository": repository, "digest": digest}

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            [*self.inside, *self.ctr, *arguments], check=True, capture_output=True, text=True, timeout=120
        ).stdout


@contextmanager
def node_registry(cluster: EmbeddedCluster, folder: Path) -> Iterator[NodeRegistry]:
    """Run a registry in the node's network namespace, where containerd accepts it without TLS."""
    inside = ["nsenter", f"--net=/proc/{cluster.first_process()}/ns/net"]
    ctr = [provide(cluster.paths).path("ctr"), "--address", str(cluster.paths.state / "containerd.sock"),
           "--namespace", "k8s.io"]  # fmt: skip
    with docker_registry(folder, 5999, inside) as address:
        yield NodeRegistry(address, inside, ctr, folder / "registry.log")


@contextmanager
def deployers(stack: Stack) -> Iterator[None]:
    """Grant the roles of manifests/k3s-deployer.yaml to a namespace's service accounts instead of GitHub's jobs."""
    documents = [
        document
        for document in yaml.safe_load_all((REPOSITORY / "manifests/k3s-deployer.yaml").read_text())
        if document["kind"] != "Namespace"
    ]
    text = json.dumps(documents).replace('"creditrisk:deployers"', f'"{GROUP}"')
    text = text.replace('"namespace": "credit-risk"', f'"namespace": "{stack.namespace}"')
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": json.loads(text)})
    stack.kubectl("create", "namespace", ACCOUNTS)
    try:
        stack.kubectl("--namespace", ACCOUNTS, "create", "serviceaccount", "job")
        stack.kubectl("apply", "--filename", "-", text=listed)
        yield
    finally:
        stack.kubectl("delete", "--filename", "-", "--ignore-not-found", text=listed)
        stack.kubectl("delete", "namespace", ACCOUNTS, "--wait=false")


@contextmanager
def connected(stack: Stack, folder: Path) -> Iterator[dict[str, str]]:
    """Run connect.sh as the workflow does, and yield the environment of the job's later steps."""
    admin = yaml.safe_load(stack.cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    ca = base64.b64decode(admin["certificate-authority-data"])
    (folder / "bin").mkdir()
    aws_cli(folder / "bin")
    program(folder / "bin/session-manager-plugin", PLUGIN)
    token = stack.kubectl("--namespace", ACCOUNTS, "create", "token", "job", "--duration=1h").strip()
    with (
        moto_server(folder / "moto.log") as moto,
        github_tokens(token) as github,
        serving(lambda request: ca if request.path == "/ca.crt" else None) as port,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        local = probe.getsockname()[1]
        probe.close()
        machine = client("ec2", moto).run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]
        environment = {
            **stack.environment(), **credentials(moto),
            "PATH": f"{folder}/bin:{stack.environment()['PATH']}", "CALLS": str(folder / "calls"),
            "K3S_SERVER_ID": machine["InstanceId"], "K3S_AUDIENCE": "credit-risk", "LOCAL_PORT": str(local),
            "K3S_CA_URL": f"http://127.0.0.1:{port}/ca.crt", "TUNNEL_TO": admin["server"].rpartition(":")[2],
        }  # fmt: skip
        # The session runs on during the job's later steps; the end of the block ends its process group.
        process = subprocess.Popen(
            [str(REPOSITORY / ".github/scripts/connect.sh"), str(folder / "k3s")], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=90)
            assert process.returncode == 0, said
            yield {
                **environment,
                "KUBECONFIG": str(folder / "k3s/kubeconfig"),
                "ACTIONS_ID_TOKEN_REQUEST_URL": github.url,
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job",
            }
        finally:
            os.killpg(process.pid, signal.SIGTERM)
