"""A pod that takes notifications and logs each as a line of JSON, on the operator's image, which has aiohttp."""

from __future__ import annotations

import json
from dataclasses import dataclass

from e2e.kubernetes_api import Document
from e2e.namespace import ScenarioNamespace

NAME, PORT = "receiver", 8080
# Each path answers its first request as a server that restarts does.
_PROGRAM = f"""
import json
from aiohttp import web
seen = set()
async def take(request):
    status = 200 if request.path in seen else 503
    seen.add(request.path)
    body, kind = await request.text(), request.headers["Content-Type"]
    print(json.dumps({{"path": request.path, "status": status, "type": kind, "body": body}}), flush=True)
    return web.Response(status=status, headers={{"Retry-After": "1"}})
app = web.Application()
app.router.add_post("/{{path:.*}}", take)
app.router.add_get("/", lambda request: web.Response())
web.run_app(app, port={PORT}, print=None)
"""


@dataclass(frozen=True)
class Receiver:
    """The pod and its Service in a namespace."""

    namespace: ScenarioNamespace

    def start(self) -> None:
        """Create both, and wait until the pod is ready."""
        documents = {"apiVersion": "v1", "kind": "List", "items": [_service(), self._pod()]}
        self.namespace.kubectl("apply", "-f", "-", text=json.dumps(documents))
        self.namespace.kubectl("wait", f"pod/{NAME}", "--for=condition=Ready", "--timeout=120s")

    def remove(self) -> None:
        """Delete both."""
        self.namespace.kubectl("delete", f"pod/{NAME}", f"service/{NAME}", "--ignore-not-found", "--wait=false")

    def taken(self, path: str) -> list[Document]:
        """Return what the pod answered with 200 on a path, in order."""
        requests = map(json.loads, self.namespace.kubectl("logs", NAME).splitlines())
        return [request for request in requests if (request["path"], request["status"]) == (path, 200)]

    def _pod(self) -> Document:
        container = {
            "name": NAME,
            "image": self.namespace.environment.images["operator"],
            "command": ["python", "-c", _PROGRAM],
            "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
            "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "96Mi"}},
            "securityContext": {
                "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            },
        }  # fmt: skip
        security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": {"app": NAME}},
            "spec": {"containers": [container], "securityContext": security, "automountServiceAccountToken": False,
                     "terminationGracePeriodSeconds": 1},
        }  # fmt: skip


def _service() -> Document:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT}]}}  # fmt: skip
