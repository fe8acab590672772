"""Compare scoring through a cluster's ingress with a bare echo of as many pods behind the same ingress.

    make bench-ingress MODEL=FOLDER

The echo gets the service's image, resources and number of pods, in a namespace that is deleted at the end. wrk runs on
the same machine as the cluster: compare ratios within rounds.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))
from run import CONTENDERS, applicants, latency, requests_of, wrk_script

NAMESPACE, ECHO_HOST = "bench-serving", "echo.bench-serving.test"


def kubectl(*arguments: str, text: str | None = None) -> str:
    return subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True, input=text).stdout


def echo_beside(deployment: dict, ingress: dict) -> list[dict]:
    """Return the echo's objects: the service's image and resources, uvicorn with one worker."""
    container, labels = deployment["spec"]["template"]["spec"]["containers"][0], {"app": "echo"}
    echo = {
        "name": "echo", "image": container["image"], "resources": container["resources"],
        "command": ["python", "-m", "uvicorn", "--app-dir", "/echo", "--host", "0.0.0.0", "--port", "8000",
                    "--no-access-log", "--log-level", "warning", "echo:app"],
        "ports": [{"containerPort": 8000}], "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "echo", "mountPath": "/echo"}],
    }  # fmt: skip
    pod = {
        "securityContext": deployment["spec"]["template"]["spec"]["securityContext"],
        "containers": [echo], "volumes": [{"name": "echo", "configMap": {"name": "echo"}}],
    }  # fmt: skip
    backend = {"service": {"name": "echo", "port": {"number": 8000}}}
    rule = {"host": ECHO_HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    annotations = {
        name: value for name, value in ingress["metadata"].get("annotations", {}).items() if name.startswith("traefik")
    }
    named = {"metadata": {"name": "echo", "namespace": NAMESPACE}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", **named, "data": {"echo.py": (CONTENDERS / "echo.py").read_text()}},
        {"apiVersion": "apps/v1", "kind": "Deployment", **named, "spec": {
            "replicas": deployment["spec"]["replicas"], "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }},
        {"apiVersion": "v1", "kind": "Service", **named, "spec": {"selector": labels, "ports": [{"port": 8000}]}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
         "metadata": {**named["metadata"], "annotations": annotations}, "spec": {"rules": [rule]}},
    ]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A URL to send requests to, with wrk's script for it."""

    name: str
    url: str
    script: Path
    connections: int

    def measure(self, seconds: int) -> tuple[float, float, float]:
        """Return requests per second, and the median and the 99th percentile of the latency in milliseconds."""
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--latency", "-s", str(self.script)]
        output = subprocess.run([*command, self.url], check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in output:
            raise SystemExit(f"{self.name} refused requests:\n{output}")
        return requests_of(output), latency(output, 50), latency(output, 99)


def targets(url: str, namespace: str, model: Path, work: Path) -> list[Target]:
    """Write the requests to scripts, and return the targets, the echo last."""
    found = kubectl("-n", namespace, "get", "secret", "scoring-api-key", "--ignore-not-found", "-o", "json")
    key = base64.b64decode(json.loads(found)["data"]["key"]).decode() if found.strip() else ""
    ingress = json.loads(kubectl("-n", namespace, "get", "ingress", "scoring", "-o", "json"))
    hosts = {"scoring": ingress["spec"]["rules"][0].get("host", ""), "echo": ECHO_HOST}
    bodies = [json.dumps(applicant) for applicant in applicants(model)]
    scripts = {}
    for name, host in hosts.items():
        headers = {"Host": host, **({"X-API-Key": key} if name == "scoring" else {})}
        scripts[name] = work / f"{name}.lua"
        scripts[name].write_text(wrk_script(bodies, {key: value for key, value in headers.items() if value}))
    paths = {"scoring": "/v1/score", "scoring, 4 reasons": "/v1/score?reasons=4", "echo": "/"}
    return [
        Target(f"{name}, {connections} connections", url + path, scripts[name.partition(",")[0]], connections)
        for connections in (4, 16)
        for name, path in paths.items()
    ]


def table(found: dict[str, list[tuple[float, float, float]]], pods: int) -> None:
    print(
        f"\n| through the ingress, {pods} pods | req/s | p50, ms | p99, ms | p99 of the echo's |\n|---|---|---|---|---|"
    )
    for name, rounds in found.items():
        echoes = found[f"echo, {name.rpartition(', ')[2]}"]
        rate, middle, tail = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(own[2] / echo[2] for own, echo in zip(rounds, echoes, strict=True))
        print(f"| {name} | {rate:.0f} | {middle:.1f} | {tail:.1f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("CREDITRISK_URL", "http://127.0.0.1:8080"))
    parser.add_argument("--namespace", default="credit-risk", help="the service's namespace")
    parser.add_argument("--model", type=Path, required=True, help="folder of a registered version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    deployment = json.loads(kubectl("-n", options.namespace, "get", "deployment", "scoring", "-o", "json"))
    ingress = json.loads(kubectl("-n", options.namespace, "get", "ingress", "scoring", "-o", "json"))
    objects = {"apiVersion": "v1", "kind": "List", "items": echo_beside(deployment, ingress)}
    try:
        kubectl("apply", "-f", "-", text=json.dumps(objects))
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/echo", "--timeout=120s")
        # The ingress controller picks up endpoints a moment later.
        time.sleep(5)
        with TemporaryDirectory() as folder:
            asked = targets(options.url, options.namespace, options.model, Path(folder))
            for target in asked:
                target.measure(2)
            found = defaultdict(list)
            for _ in range(options.rounds):
                for target in asked:
                    found[target.name].append(target.measure(options.seconds))
        table(found, deployment["spec"]["replicas"])
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


if __name__ == "__main__":
    main()
