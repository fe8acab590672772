"""The Deployments and StatefulSets behind the registry, for tests of outages."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from localcluster.console import wait_for
from localcluster.stack import Stack

# What the registry consists of, in the order in which it starts; a stack has one of the two object stores.
REGISTRY = {"postgres": "statefulsets", "minio": "statefulsets", "seaweedfs": "statefulsets", "mlflow": "deployments"}


@dataclass
class Backends:
    """The Deployments and StatefulSets behind the registry."""

    stack: Stack
    stopped_at: float = 0.0

    def stop(self) -> None:
        """Scale all of them to zero, and wait until their pods are gone."""
        for name, kind in self._found():
            self.stack.kubectl("scale", f"{kind}/{name}", "--replicas=0")
        for name, _ in self._found():
            wait_for(f"no pod of {name}", partial(self._pods, name), timeout_seconds=90)
        self.stopped_at = time.time()

    def start(self) -> None:
        """Scale all of them to one replica, and wait until they are ready."""
        for name, kind in self._found():
            self.stack.kubectl("scale", f"{kind}/{name}", "--replicas=1")
        for name, kind in self._found():
            self.stack.kubectl("rollout", "status", f"{kind}/{name}", "--timeout=180s")

    def _pods(self, name: str) -> str | None:
        return self.stack.kubectl("get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "name") or None

    def _found(self) -> list[tuple[str, str]]:
        names = self.stack.kubectl("get", "deployments,statefulsets", "-o", "jsonpath={.items[*].metadata.name}")
        return [(name, kind) for name, kind in REGISTRY.items() if name in names.split()]
