"""helm and kubectl in one namespace of a local cluster."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.cluster import Cluster
from localcluster.console import output, run


@dataclass(frozen=True)
class Namespace:
    """A namespace of a local cluster and the programs to work with it."""

    cluster: Cluster
    namespace: str

    @property
    def log(self) -> Path:
        """The log of everything that is installed in the namespace."""
        return self.cluster.paths.logs / f"stack-{self.namespace}.log"

    def helm(self, *arguments: str) -> None:
        """Run helm against the cluster and append its output to the log."""
        run([str(self.cluster.paths.tools / "helm"), *arguments], self.log, env=self.environment())

    def helm_output(self, *arguments: str) -> str:
        """Run helm in the namespace and return what it printed."""
        command = [str(self.cluster.paths.tools / "helm"), *arguments, "--namespace", self.namespace]
        return output(command, env=self.environment())

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl in the namespace and return what it printed; `text` is its standard input."""
        return output([*self.kubectl_command(), *arguments], env=self.environment(), text=text)

    def create(self, document: Mapping[str, Any]) -> None:
        """Create an object in the namespace."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(document, file)
            file.flush()
            self.kubectl("create", "--filename", file.name)

    def kubectl_command(self) -> list[str]:
        """Return kubectl's command line for the namespace."""
        return [str(self.cluster.paths.tools / "kubectl"), "--namespace", self.namespace]

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the cluster's kubeconfig and tools."""
        tools = f"{self.cluster.paths.tools}:{os.environ['PATH']}"
        return {**os.environ, "PATH": tools, "KUBECONFIG": str(self.cluster.kubeconfig)}
