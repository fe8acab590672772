"""Start training runs on a local cluster as Jobs rendered from the release's chart, and follow their logs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from localcluster import object_store
from localcluster.console import ClusterError
from localcluster.stack import CHART, RELEASE, Stack

TEMPLATE = "charts/training/templates/*.yaml"
KEPT_SECONDS = 86_400
# The name of the Secret that the training chart mounts by default.
DECISIONS_KEY = "decisions-training-key"
POLL_SECONDS = 0.5
# Exit codes of the trainer that another attempt of the same Job would not change.
PERMANENT_EXIT_CODES = {
    2: "invalid data or arguments",
    3: "a gate refused the model",
}


def start(stack: Stack, data: str, arguments: Sequence[str], features: Path | None = None) -> str:
    """Start a training run and return the name of its Job.

    The Job has the release's image, resources and volume but is not part of the release: `helm upgrade` does not remove
    it.

    Args:
        stack: The installed stack.
        data: A file, a URL, `synthetic`, `decisions` (those of the decision log), or "" for the release's data.
        arguments: Further arguments of the trainer.
        features: A feature declaration for the data; None for the release's.

    Raises:
        ClusterError: The file, the release or its decision log does not exist, or the cluster refuses the Job.
    """
    if data == "decisions" or data.startswith("decisions:"):
        _require_decisions(stack)
    elif data and data != "synthetic" and "://" not in data:
        data = object_store.upload(stack, Path(data).resolve())
    server = json.loads(stack.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
    values = {"data": data} if data else {}
    if features:
        values["features"] = features.read_text(encoding="utf-8-sig")
    documents = render(stack, values, arguments, server)
    job, own = documents.pop("Job"), _own_declaration(documents) if features else None
    for document in documents.values():
        _create_if_absent(stack, document)
    name = str(job["metadata"]["name"])
    if own:
        _mount_declaration(job, own["metadata"]["name"])
    stack.create(job)
    if own:
        # Deleted with the Job. Its pod waits for this.
        uid = stack.kubectl("get", "job", name, "--output=jsonpath={.metadata.uid}")
        owner = {"apiVersion": job["apiVersion"], "kind": "Job", "name": name, "uid": uid}
        own["metadata"]["ownerReferences"] = [owner]
        stack.create(own)
    return name


def _require_decisions(stack: Stack) -> None:
    """Refuse to start a run that would wait for a Secret that nobody creates."""
    if not stack.kubectl("get", "secret", DECISIONS_KEY, "--ignore-not-found", "--output=name"):
        raise ClusterError("there is no decision log to train from; `make up DECISIONS=log` switches it on")


def _own_declaration(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Take the run's declaration out of the documents, with a name that the release and other runs do not use."""
    declaration = documents.pop("ConfigMap")
    declaration["metadata"]["name"] = f"training-features-{time.time_ns()}"
    return declaration


def _mount_declaration(job: dict[str, Any], name: str) -> None:
    (volume,) = (item for item in job["spec"]["template"]["spec"]["volumes"] if item["name"] == "features")
    volume["configMap"]["name"] = name


def render(
    stack: Stack, values: Mapping[str, object], arguments: Sequence[str], version: str
) -> dict[str, dict[str, Any]]:
    """Render a run's Job, and the objects it needs, from the release's values.

    Args:
        stack: The installed stack.
        values: Values of the training chart that differ from the release's.
        arguments: Further arguments of the trainer.
        version: Version of Kubernetes to render for.

    Returns:
        The objects by kind.
    """
    stack.build_charts()
    release = yaml.safe_load(stack.helm_output("get", "values", RELEASE, "--output", "yaml")) or {}
    training = {**release.get("training", {}), **values, "enabled": True, "schedule": ""}
    training["run"] = f"make-train-{time.time_ns()}"
    training["args"] = [*training.get("args", []), *arguments]
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "values.yaml"
        file.write_text(yaml.safe_dump({**release, "training": training}))
        rendered = stack.helm_output(
            "template", RELEASE, str(CHART), "--values", str(file), "--show-only", TEMPLATE,
            "--kube-version", version,
        )  # fmt: skip
    documents: dict[str, dict[str, Any]] = {item["kind"]: item for item in yaml.safe_load_all(rendered) if item}
    documents["Job"]["spec"]["ttlSecondsAfterFinished"] = KEPT_SECONDS
    documents["Job"]["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "make-train"
    return documents


def _create_if_absent(stack: Stack, document: dict[str, Any]) -> None:
    """Create what a run needs if the release was installed without training; Helm may adopt it later."""
    kind, name = document["kind"], document["metadata"]["name"]
    if not stack.kubectl("get", kind, name, "--ignore-not-found", "--output=name"):
        owner = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": stack.namespace}
        document["metadata"]["annotations"] = owner
        stack.create(document)


def follow(stack: Stack, job: str) -> None:
    """Print the log of a run, attempt by attempt, until the run has ended.

    Raises:
        ClusterError: The run failed; the message has the reason.
    """
    followed: set[str] = set()
    outcome = None
    while outcome is None:
        outcome = _outcome(stack, job)
        for pod in _pods(stack, job):
            name = pod["metadata"]["name"]
            if name not in followed and pod["status"]["phase"] != "Pending":
                followed.add(name)
                command = [*stack.kubectl_command(), "logs", "--follow", name]
                subprocess.run(command, env=stack.environment(), stdin=subprocess.DEVNULL)
        time.sleep(0 if outcome is not None else POLL_SECONDS)
    if outcome:
        raise ClusterError(f"the training run {job} failed: {outcome}")


def _outcome(stack: Stack, job: str) -> str | None:
    """Return "" if a run succeeded, the reason if it failed, and None while it is running."""
    status = json.loads(stack.kubectl("get", "job", job, "--output=json")).get("status", {})
    conditions = {c["type"]: c.get("message", "") for c in status.get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return ""
    for pod in _pods(stack, job):
        for container in pod["status"].get("containerStatuses", []):
            code = container["state"].get("terminated", {}).get("exitCode")
            if code in PERMANENT_EXIT_CODES:
                return f"{PERMANENT_EXIT_CODES[code]} (exit code {code})"
    return conditions.get("Failed")


def _pods(stack: Stack, job: str) -> list[dict[str, Any]]:
    """Return a run's pods, oldest first."""
    listed = stack.kubectl("get", "pods", "--selector", f"job-name={job}", "--output=json",
                           "--sort-by=.metadata.creationTimestamp")  # fmt: skip
    pods: list[dict[str, Any]] = json.loads(listed)["items"]
    return pods
