"""The part of metrics.k8s.io that an autoscaler reads, for clusters without a metrics server; runs in a pod.

    python metrics_api.py CERTIFICATE KEY PORT

It passes on what each node's kubelet measures, and needs `get` on nodes/proxy and `list` on nodes and pods. Only the
standard library, because it is a file in a ConfigMap.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

GROUP = "/apis/metrics.k8s.io/v1beta1"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# How far apart a kubelet's two measurements are, about.
WINDOW = "10s"
RESOURCES = {
    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1",
    "resources": [{"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics",
                   "verbs": ["get", "list"]}],
}  # fmt: skip


def pod_metrics(wanted: Iterable[tuple[str, str]], summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a PodMetricsList of pods, given by namespace and name, from summaries of kubelets.

    A pod of which a container has not been measured twice yet is left out, as metrics-server does.
    """
    names, items = set(wanted), []
    for pod in (pod for summary in summaries for pod in summary.get("pods", ())):
        key, containers = (pod["podRef"]["namespace"], pod["podRef"]["name"]), pod.get("containers", ())
        measured = [one for one in containers if "usageNanoCores" in one.get("cpu", {})]
        if key not in names or not containers or len(measured) < len(containers):
            continue
        items.append({
            "metadata": {"namespace": key[0], "name": key[1]},
            "timestamp": min(one["cpu"]["time"] for one in measured),
            "window": WINDOW,
            "containers": [
                {"name": one["name"], "usage": {"cpu": f"{one['cpu']['usageNanoCores']}n",
                                                "memory": str(one.get("memory", {}).get("workingSetBytes", 0))}}
                for one in measured
            ],
        })  # fmt: skip
    return {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items}


def ask(path: str) -> dict[str, Any]:
    """Return what the API server answers."""
    host = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    request = urllib.request.Request(f"https://{host}{path}")
    request.add_header("Authorization", f"Bearer {(ACCOUNT / 'token').read_text()}")
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


class Handler(BaseHTTPRequestHandler):
    """Answers lists of a namespace's pods, and the discovery that the API server asks for."""

    def do_GET(self) -> None:
        """Answer one request."""
        url = urlsplit(self.path)
        parts = url.path.removeprefix(GROUP).strip("/").split("/")
        if url.path.rstrip("/") == GROUP:
            self._answer(RESOURCES)
        elif url.path.startswith(GROUP) and len(parts) == 3 and parts[::2] == ["namespaces", "pods"]:
            pods = ask(f"/api/v1/namespaces/{parts[1]}/pods?{url.query}")["items"]
            nodes = {pod["spec"]["nodeName"] for pod in pods if "nodeName" in pod["spec"]}
            names = [(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods]
            self._answer(pod_metrics(names, [ask(f"/api/v1/nodes/{node}/proxy/stats/summary") for node in nodes]))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until the process is ended."""
    certificate, key, port = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("", int(port)), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
