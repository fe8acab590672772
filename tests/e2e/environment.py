"""What all scenario namespaces share: one installed stack, its registry, and the locally built images."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow import MlflowClient

from e2e.kubernetes_api import Document, KubernetesApi
from e2e.model_versions import VersionPublisher
from localcluster import training
from localcluster.console import run
from localcluster.packages import HELM_3, extract
from localcluster.paths import REPOSITORY
from localcluster.stack import Stack

# From this release on, API servers evaluate the CEL rules of a CustomResourceDefinition.
CEL_RELEASE = (1, 25)


@dataclass
class Environment:
    """The stack and the tools that scenarios run with.

    Attributes:
        stack: The installed stack, with the registry and the trainer.
        api: The cluster's API.
        registry: A client of the stack's MLflow.
        publisher: Registers model versions.
        images: The locally built images' references by chart.
        applications: What clients send, with all fields of the champion.
        run_id: Distinguishes this run's models from those of an earlier run on the same registry.
    """

    stack: Stack
    api: KubernetesApi
    registry: MlflowClient
    publisher: VersionPublisher
    images: Mapping[str, str]
    applications: Sequence[Document]
    run_id: str = field(default_factory=lambda: format(int(time.time()), "x"))

    def helm(self, namespace: str, *arguments: str, program: str = "helm") -> None:
        """Run helm in a namespace; the program helm-3 is the major version before the project's own."""
        paths = self.stack.cluster.paths
        if program == "helm-3":
            (found,) = extract(HELM_3, paths.cache / "helm-3", paths, self.log)
            program = str(found)
        run([program, *arguments, "--namespace", namespace], self.log, env=self.stack.environment())

    def helm_install(self, chart: str, namespace: str, *values: str, program: str = "helm") -> None:
        """Install or upgrade a chart with the locally built image."""
        repository, _, tag = self.images[chart].rpartition(":")
        self.helm(
            namespace, "upgrade", "--install", chart, str(REPOSITORY / "charts" / chart), "--create-namespace",
            f"--set=image.repository={repository}", f"--set-string=image.tag={tag}",
            f"--set=mlflowUrl=http://mlflow.{self.stack.namespace}:5000", *values, program=program,
        )  # fmt: skip

    def train(self, *arguments: str) -> None:
        """Train on the release's own data, as `make train` does, and wait until the run has ended.

        Raises:
            ClusterError: The run failed; the message says how.
        """
        job = training.start(self.stack, "", arguments)
        training.follow(self.stack, job)

    @property
    def log(self) -> Path:
        """Return the file that helm's output is appended to."""
        return self.stack.cluster.paths.logs / "promotion-tests.log"

    def stack_in(self, namespace: str) -> Stack:
        """Return the stack as seen from another namespace."""
        return replace(self.stack, namespace=namespace)

    def kubectl(self, namespace: str, *arguments: str, text: str | None = None) -> str:
        """Run kubectl in a namespace; `text` is its standard input."""
        return self.stack_in(namespace).kubectl(*arguments, text=text)

    def evaluates_cel(self) -> bool:
        """Return whether the API server itself refuses objects that break a CEL rule."""
        server = json.loads(self.kubectl("default", "version", "--output=json"))["serverVersion"]
        return (int(server["major"]), int(server["minor"].rstrip("+"))) >= CEL_RELEASE
