"""Training runs on a local cluster: started as Jobs of the release's own chart, and followed to their end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from localcluster.console import ClusterError, output
from localcluster.stack import CHART, RELEASE, Stack

TEMPLATE = "charts/training/templates/*.yaml"
KEPT_SECONDS = 86_400
LOOK_SECONDS = 0.5
# The trainer's own: another attempt of the same Job would end in the same way.
ENDED_BY = {
    2: "the data or the arguments cannot be used",
    3: "a gate refused the model",
}


def start(stack: Stack, data: str, arguments: Sequence[str]) -> str:
    """Start a run on `data` (a file, an address, `synthetic`, or "" for the release's own data); return its Job.

    The Job stands beside the release: it has the release's image, resources and volume, and no `helm upgrade` ends it.

    Raises:
        ClusterError: when there is no such file, no release, or the cluster refuses the Job.
    """
    if data and data != "synthetic" and "://" not in data:
        data = stack.upload(Path(data).resolve())
    server = json.loads(stack.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
    documents = render(stack, {"data": data} if data else {}, arguments, server)
    job = documents.pop("Job")
    for document in documents.values():
        _create_if_absent(stack, document)
    stack.create(job)
    return str(job["metadata"]["name"])


def render(
    stack: Stack, values: Mapping[str, object], arguments: Sequence[str], version: str
) -> dict[str, dict[str, Any]]:
    """Return a run's Job for that version of Kubernetes, and what it needs beside it, by kind.

    Everything is as the release has it but for `values` of the training chart and further arguments of the trainer.
    """
    stack.build_charts()
    release = yaml.safe_load(_helm(stack, "get", "values", RELEASE, "--output", "yaml")) or {}
    training = {**release.get("training", {}), **values, "enabled": True, "schedule": ""}
    training["run"] = f"make-train-{time.time_ns()}"
    training["args"] = [*training.get("args", []), *arguments]
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "values.yaml"
        file.write_text(yaml.safe_dump({**release, "training": training}))
        rendered = _helm(
            stack, "template", RELEASE, str(CHART), "--values", str(file), "--show-only", TEMPLATE,
            "--kube-version", version,
        )  # fmt: skip
    documents: dict[str, dict[str, Any]] = {item["kind"]: item for item in yaml.safe_load_all(rendered) if item}
    documents["Job"]["spec"]["ttlSecondsAfterFinished"] = KEPT_SECONDS
    documents["Job"]["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "make-train"
    return documents


def _create_if_absent(stack: Stack, document: dict[str, Any]) -> None:
    """Create what a run needs beside it, where the release was installed without training; Helm may take it over."""
    kind, name = document["kind"], document["metadata"]["name"]
    if not stack.kubectl("get", kind, name, "--ignore-not-found", "--output=name"):
        owner = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": stack.namespace}
        document["metadata"]["annotations"] = owner
        stack.create(document)


def follow(stack: Stack, job: str) -> None:
    """Print the log of a run, attempt by attempt, until it ended.

    Raises:
        ClusterError: when it ended badly; the message says how.
    """
    followed: set[str] = set()
    ending = None
    while ending is None:
        ending = _ending(stack, job)
        for pod in _pods(stack, job):
            name = pod["metadata"]["name"]
            if name not in followed and pod["status"]["phase"] != "Pending":
                followed.add(name)
                command = [*stack.kubectl_command(), "logs", "--follow", name]
                subprocess.run(command, env=stack.environment(), stdin=subprocess.DEVNULL)
        time.sleep(0 if ending is not None else LOOK_SECONDS)
    if ending:
        raise ClusterError(f"the training run {job} failed: {ending}")


def _ending(stack: Stack, job: str) -> str | None:
    """Return how a run ended: "" when well, None while it has not."""
    status = json.loads(stack.kubectl("get", "job", job, "--output=json")).get("status", {})
    conditions = {c["type"]: c.get("message", "") for c in status.get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return ""
    for pod in _pods(stack, job):
        for container in pod["status"].get("containerStatuses", []):
            code = container["state"].get("terminated", {}).get("exitCode")
            if code in ENDED_BY:
                return f"{ENDED_BY[code]} (exit code {code})"
    return conditions.get("Failed")


def _pods(stack: Stack, job: str) -> list[dict[str, Any]]:
    """Return a run's pods, the oldest first."""
    listed = stack.kubectl("get", "pods", "--selector", f"job-name={job}", "--output=json",
                           "--sort-by=.metadata.creationTimestamp")  # fmt: skip
    pods: list[dict[str, Any]] = json.loads(listed)["items"]
    return pods


def _helm(stack: Stack, *arguments: str) -> str:
    command = [str(stack.cluster.paths.tools / "helm"), *arguments, "--namespace", stack.namespace]
    return output(command, env=stack.environment())
