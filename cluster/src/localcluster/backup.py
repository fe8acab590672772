"""Backups and restores on a local cluster: Jobs created from the release's CronJobs, and followed to their end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from localcluster.console import ClusterError
from localcluster.stack import Stack

KEPT_SECONDS = 86_400
POLL_SECONDS = 0.5
# Exit codes of the program `backup`, which runs in these containers.
CONTAINERS = {"store", "list", "fetch", "verify"}
PERMANENT_EXIT_CODES = {
    2: "invalid settings",
    3: "refused, nothing was changed",
    4: "restored, but files of registered versions do not match their digests",
}


def back_up(stack: Stack) -> str:
    """Start a backup and return the name of its Job.

    Raises:
        ClusterError: The release has no backups, or a backup or restore is running.
    """
    _require_idle(stack)
    return _create(stack, "backup", _job(stack, "backup"))


def restore(stack: Stack, source: str, *, as_json: bool = False) -> str:
    """Start a restore and return the name of its Job.

    Args:
        stack: The installed stack.
        source: Id of a backup, or `latest`.
        as_json: Whether the report is one line of JSON.

    Raises:
        ClusterError: The release has no backups, or a backup or restore is running.
    """
    _require_idle(stack)
    job = _job(stack, "restore")
    pod = job["spec"]["template"]["spec"]
    for variable in pod["initContainers"][0]["env"]:
        if variable["name"] == "BACKUP_FROM":
            variable["value"] = source
    if as_json and "--json" not in pod["containers"][0]["command"]:
        pod["containers"][0]["command"].append("--json")
    return _create(stack, "restore", job)


def list_backups(stack: Stack) -> str:
    """Start a Job that lists the backups, and return its name.

    Raises:
        ClusterError: The release has no backups.
    """
    job = _job(stack, "backup")
    pod = job["spec"]["template"]["spec"]
    del pod["initContainers"]
    pod["containers"][0] |= {"name": "list", "command": ["python", "-m", "backup", "list"]}
    job["spec"].pop("podFailurePolicy", None)
    return _create(stack, "backups", job)


def follow(stack: Stack, job: str) -> None:
    """Print the logs of a Job's containers until it has ended.

    Raises:
        ClusterError: The Job failed; the message has the reason.
    """
    followed: set[tuple[str, str]] = set()
    outcome = None
    while outcome is None:
        outcome = _outcome(stack, job)
        for pod in _pods(stack, job):
            for container in _started(pod):
                log = (pod["metadata"]["name"], container)
                if log not in followed:
                    followed.add(log)
                    # Returns when the container has ended.
                    command = [*stack.kubectl_command(), "logs", "--follow", log[0], "--container", container]
                    subprocess.run(command, env=stack.environment(), stdin=subprocess.DEVNULL)
        time.sleep(0 if outcome is not None else POLL_SECONDS)
    if outcome:
        raise ClusterError(f"{job} failed: {outcome}")


def _job(stack: Stack, cron_job: str) -> dict[str, Any]:
    """Return a Job from a CronJob's template, as `kubectl create job --from` makes it, with a single attempt."""
    found = stack.kubectl("get", "cronjob", cron_job, "--ignore-not-found", "--output=json")
    if not found.strip():
        raise ClusterError(
            f"namespace {stack.namespace} has no CronJob {cron_job}: install the charts with backup.enabled=true"
        )
    template = json.loads(found)["spec"]["jobTemplate"]
    # The user sees why it failed and can start another.
    spec = {**template["spec"], "backoffLimit": 0, "ttlSecondsAfterFinished": KEPT_SECONDS}
    labels = {**template["metadata"]["labels"], "app.kubernetes.io/managed-by": "make"}
    metadata = {"labels": labels, "annotations": {"cronjob.kubernetes.io/instantiate": "manual"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _create(stack: Stack, prefix: str, job: dict[str, Any]) -> str:
    name = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{time.time_ns() % 1_000:03}"
    job["metadata"]["name"] = name
    stack.create(job)
    return name


def _require_idle(stack: Stack) -> None:
    """Refuse to start while another Job is active: it could back up a half-done restore, or conflict with it."""
    listed = stack.kubectl("get", "jobs", "--selector=app.kubernetes.io/name=backup", "--output=json")
    active = [item["metadata"]["name"] for item in json.loads(listed)["items"] if item.get("status", {}).get("active")]
    if active:
        raise ClusterError(f"{', '.join(active)} is still running in namespace {stack.namespace}: wait for its end")


def _started(pod: dict[str, Any]) -> Iterator[str]:
    """Yield the names of a pod's containers that have logs, in the order in which they run."""
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        if "waiting" not in container["state"] and container["state"]:
            yield container["name"]


def _outcome(stack: Stack, job: str) -> str | None:
    """Return "" if a Job succeeded, the reason if it failed, and None while it is running."""
    status = json.loads(stack.kubectl("get", "job", job, "--output=json")).get("status", {})
    conditions = {c["type"]: c.get("message", "") for c in status.get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return ""
    if "Failed" not in conditions:
        return None
    reasons = [reason for pod in _pods(stack, job) for reason in _failures(pod)]
    return "; ".join(reasons) or conditions["Failed"] or "see its log"


def _failures(pod: dict[str, Any]) -> Iterator[str]:
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        code = container["state"].get("terminated", {}).get("exitCode")
        if code:
            known = PERMANENT_EXIT_CODES if container["name"] in CONTAINERS else {}
            yield f"{known.get(code, 'see the log above')} (container {container['name']}, exit code {code})"


def _pods(stack: Stack, job: str) -> list[dict[str, Any]]:
    """Return a Job's pods, oldest first."""
    listed = stack.kubectl("get", "pods", "--selector", f"job-name={job}", "--output=json",
                           "--sort-by=.metadata.creationTimestamp")  # fmt: skip
    pods: list[dict[str, Any]] = json.loads(listed)["items"]
    return pods
