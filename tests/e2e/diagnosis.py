"""What a cluster looked like when a test failed: the cause of a failure is often gone by the time a log is read."""

from __future__ import annotations

import json
from typing import Any

from e2e.kubernetes_api import Document
from e2e.pods import is_ready
from localcluster.cluster import Cluster
from localcluster.console import ClusterError
from localcluster.stack import Stack

# Enough to see a cause, few enough to be read in the log of a CI run.
_PODS, _EVENTS, _LOG_LINES = 12, 20, 8


def diagnose(cluster: Cluster) -> str:
    """Return the pods that are not ready, with the last lines of their logs, and the latest warnings, as text."""
    everywhere = Stack(cluster, namespace="default", host="")
    try:
        pods = _listed(everywhere, "pods")
        waiting = [pod for pod in pods if pod["status"].get("phase") != "Succeeded" and not is_ready(pod)]
        events = [event for event in _listed(everywhere, "events") if event["type"] == "Warning"]
        lines = [f"{len(pods)} pods, {len(waiting)} of them not ready"]
        lines += [line for pod in waiting[:_PODS] for line in _described(everywhere, pod)]
        lines += [_event(event) for event in sorted(events, key=_last_seen)[-_EVENTS:]]
    except ClusterError as error:
        lines = [f"the cluster does not answer: {error}"]
    return "\n".join(lines)


def _listed(stack: Stack, kind: str) -> list[Document]:
    found: list[Document] = json.loads(stack.kubectl("get", kind, "--all-namespaces", "--output=json"))["items"]
    return found


def _described(stack: Stack, pod: Document) -> list[str]:
    status, name, namespace = pod["status"], pod["metadata"]["name"], pod["metadata"]["namespace"]
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    conditions = [item.get("message", "") for item in status.get("conditions", []) if item["status"] != "True"]
    ended = " being deleted" if "deletionTimestamp" in pod["metadata"] else ""
    lines = [f"pod {namespace}/{name}: {status.get('phase')}{ended} {'; '.join(filter(None, conditions))}"]
    for container in containers:
        if container["ready"]:
            continue
        lines.append(f"  {container['name']}: {container['restartCount']} restarts, {json.dumps(container['state'])}")
        try:
            log = stack.kubectl("logs", name, f"--namespace={namespace}", f"--container={container['name']}",
                                f"--tail={_LOG_LINES}")  # fmt: skip
        except ClusterError:  # The container has not started.
            continue
        lines += [f"    {line[:300]}" for line in log.splitlines()]
    return lines


def _last_seen(event: Document) -> str:
    seen: Any = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return str(seen)


def _event(event: Document) -> str:
    subject = event["involvedObject"]
    where = f"{subject.get('namespace', '')}/{subject.get('name', '')}"
    return f"{_last_seen(event)} {subject['kind']} {where}: {event['reason']}: {event['message'][:300]}"
