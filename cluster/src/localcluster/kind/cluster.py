"""The local cluster on kind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from localcluster import packages
from localcluster.console import output, run, step
from localcluster.images import STACK, Image, build_arguments
from localcluster.paths import REPOSITORY, Paths
from localcluster.ports import Ports

NAME = "credit-risk"
BASE_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
# Not every index has the CPU build of torch.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def available() -> bool:
    """Return whether Docker is running and kind is installed."""
    if not shutil.which("kind") or not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def _node_image() -> dict[str, str]:
    """Return kind's setting for the node image that CREDIT_RISK_KIND_NODE_IMAGE names, if set."""
    image = os.environ.get("CREDIT_RISK_KIND_NODE_IMAGE")
    return {"image": image} if image else {}


@dataclass(frozen=True)
class KindCluster:
    """A single-node kind cluster named credit-risk."""

    paths: Paths
    ports: Ports
    name: str = "kind"
    values: Path = REPOSITORY / "cluster" / "kind" / "values.yaml"
    monitoring_images: tuple[Image, ...] = ()

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of this cluster only; the user's own is not changed."""
        return self.paths.state / "kind-kubeconfig"

    def running(self) -> bool:
        """Return whether kind lists the cluster."""
        return shutil.which("kind") is not None and NAME in output(["kind", "get", "clusters"]).split()

    def up(self) -> None:
        """Create the cluster unless it exists, and apply its ingress controller."""
        log = self.paths.logs / "kind.log"
        packages.install_tools(self.paths, log)
        if not self.running():
            with step("Start Kubernetes with kind", log), TemporaryDirectory() as scratch:
                file = Path(scratch) / "kind.yaml"
                file.write_text(yaml.safe_dump(self._configuration()))
                run(["kind", "create", "cluster", "--name", NAME, "--config", str(file), "--wait", "120s",
                     "--kubeconfig", str(self.kubeconfig)], log)  # fmt: skip
        run([str(self.paths.tools / "kubectl"), "--kubeconfig", str(self.kubeconfig), "apply", "-f",
             str(REPOSITORY / "cluster" / "kind" / "traefik.yaml")], log)  # fmt: skip

    def down(self) -> None:
        """Delete the cluster and its state."""
        if self.running():
            run(["kind", "delete", "cluster", "--name", NAME], self.paths.logs / "kind.log")
        shutil.rmtree(self.paths.state, ignore_errors=True)

    def images(self, wanted: Sequence[Image] = STACK) -> dict[str, str]:
        """Build these images with Docker, load them, and return each image's reference by its name."""
        log = self.paths.logs / "images.log"
        references = {}
        for image in wanted:
            reference = references[image.name] = image.reference(BASE_IMAGE)
            with step(f"Build and load the image {image.name}", log):
                run(["docker", "build", *build_arguments(image, BASE_IMAGE), "--build-arg",
                     f"TORCH_INDEX_URL={TORCH_INDEX}", "--file", str(REPOSITORY / image.dockerfile),
                     "--tag", reference, str(REPOSITORY)], log)  # fmt: skip
                run(["kind", "load", "docker-image", "--name", NAME, reference], log)
        return references

    def status(self) -> list[str]:
        """Return a line that says whether the cluster is running."""
        return [f"kind cluster: {'running' if self.running() else 'not running'}"]

    def _configuration(self) -> dict[str, object]:
        mappings = [
            {"containerPort": inside, "hostPort": outside, "listenAddress": "127.0.0.1"}
            for inside, outside in ((8080, self.ports.http), (5000, self.ports.mlflow))
        ]
        return {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "networking": {"apiServerAddress": "127.0.0.1", "apiServerPort": self.ports.kubernetes},
            "nodes": [{"role": "control-plane", "extraPortMappings": mappings, **_node_image()}],
        }
