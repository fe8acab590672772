"""A cheap client of the Kubernetes API for tests that poll often."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from localcluster.stack import Stack

Document = dict[str, Any]


@dataclass(frozen=True)
class KubernetesApi:
    """The Kubernetes API behind one `kubectl proxy`, so that a request starts no process."""

    url: str

    def get(self, path: str) -> Document:
        """Return a document, {} if it does not exist."""
        return self._send("GET", path)

    def delete(self, path: str, **options: object) -> Document:
        """Delete an object, or a collection, if it exists."""
        return self._send("DELETE", path, options or None)

    def post(self, path: str, body: object) -> Document:
        """Create a document."""
        return self._send("POST", path, body)

    def patch(self, path: str, changes: object) -> Document:
        """Apply a JSON merge patch to an object."""
        return self._send("PATCH", path, changes, "application/merge-patch+json")

    def _send(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Document:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": content_type}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                answer: Document = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {}
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error
        return answer


@contextmanager
def kubernetes_api(stack: Stack) -> Iterator[KubernetesApi]:
    """Run `kubectl proxy` for the duration of the block."""
    command = [*stack.kubectl_command(), "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=stack.environment()) as process:
        line = process.stdout.readline() if process.stdout else ""
        try:
            yield KubernetesApi(f"http://{line.strip().rpartition(' ')[2]}")
        finally:
            process.terminate()
