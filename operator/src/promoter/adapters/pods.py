"""Read the status of Deployments and pods: documents in, views out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from promoter.adapters.artifact_volume import mounted
from promoter.adapters.canary_manifests import TEMPLATE_ANNOTATION, container_port, template_digest
from promoter.api.resource import GROUP, VERSION_ANNOTATION
from promoter.decision.observation import CanaryView, StableView
from promoter.errors import PermanentError
from promoter.ports import Pod

Document = dict[str, Any]
ROUTE_ANNOTATION = f"{GROUP}/route-generation"
# States of a container in which waiting does not help.
_TERMINAL_REASONS = {"InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff", "RunContainerError"}
_MAX_RESTARTS = 2


def stable_view(deployment: Document | None, stable_pods: Sequence[Document] = ()) -> StableView:
    """Return what a decision needs of the stable Deployment."""
    if deployment is None:
        return StableView()
    wanted, counts = _pod_counts(deployment)
    version = version_of(deployment["spec"]["template"])
    progress = f"{counts[1]} of {wanted} updated, {counts[2]} available, {counts[0]} in total"
    return StableView(
        exists=True,
        version=version,
        rolled_out=rolled_out(deployment),
        template=template_digest(deployment),
        progress=progress,
        wanted=wanted,
        available=counts[2],
        config_maps=mounted(deployment["spec"]["template"]),
        waiting=next(filter(None, map(waiting, stable_pods)), ""),
        stalled=_stalled(deployment) or next(filter(None, map(cannot_start, stable_pods)), ""),
        outdated=tuple(
            pod["metadata"]["name"] for pod in stable_pods if version_of(pod) != version and not _ended(pod)
        ),
    )


def rolled_out(deployment: Document) -> bool:
    """Return whether every pod of a Deployment runs its newest template and is available."""
    wanted, counts = _pod_counts(deployment)
    seen = deployment.get("status", {}).get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(seen) and counts == [wanted] * 3


def _pod_counts(deployment: Document) -> tuple[int, list[int]]:
    """Return how many pods are wanted, and how many there are in total, with the newest template, and available."""
    status = deployment.get("status", {})
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return deployment["spec"].get("replicas", 1), counts


def selector_of(deployment: Document) -> str:
    """Return a Deployment's selector in the form of a query parameter.

    Raises:
        PermanentError: it selects by expressions alone, so the canary's pods could not be kept apart from its own.
    """
    selector = deployment["spec"]["selector"]
    labels = selector.get("matchLabels") or {}
    if not labels:
        name = deployment["metadata"]["name"]
        raise PermanentError(
            f"Deployment {name} selects its pods by matchExpressions alone; add matchLabels, which keep the canary's "
            "pods apart from its own"
        )
    expressions = map(_expression, selector.get("matchExpressions") or [])
    return ",".join([*(f"{key}={value}" for key, value in labels.items()), *expressions])


def canary_view(deployment: Document | None, pods: list[Document]) -> CanaryView:
    """Return what a decision needs of the canary's Deployment and pods."""
    if deployment is None:
        return CanaryView()
    version = version_of(deployment["spec"]["template"])
    own = [pod for pod in pods if version_of(pod) == version]
    annotations = deployment["metadata"].get("annotations") or {}
    return CanaryView(
        version=version,
        template=annotations.get(TEMPLATE_ANNOTATION, ""),
        replicas=deployment["spec"].get("replicas", 1),
        ready=sum(is_ready(pod) for pod in own),
        config_maps=mounted(deployment["spec"]["template"]),
        waiting="; ".join(filter(None, map(waiting, own))),
        failure=next(filter(None, map(failure, own)), ""),
        refused=_message(deployment, "ReplicaFailure", "True"),
    )


def version_of(thing: Document) -> str | None:
    """Return the version that a pod or a pod template is annotated with, None without one."""
    value = (thing.get("metadata", {}).get("annotations") or {}).get(VERSION_ANNOTATION)
    return str(value) if value else None


def is_ready(pod: Document) -> bool:
    """Return whether a pod is ready."""
    found = pod.get("status", {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in found)


def _ended(pod: Document) -> bool:
    """Return whether a pod runs no more, like one that was evicted, though it is still listed."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def failure(pod: Document) -> str:
    """Return why a pod cannot become ready by itself, "" if it may."""
    for status in pod.get("status", {}).get("containerStatuses") or []:
        last = (status.get("lastState") or {}).get("terminated") or {}
        current = (status.get("state") or {}).get("waiting") or {}
        ended = (status.get("state") or {}).get("terminated") or {}
        restarts, name = status.get("restartCount", 0), pod["metadata"]["name"]
        reason = current.get("reason", "")
        if "OOMKilled" in {last.get("reason"), ended.get("reason")}:
            return f"pod {name} ran out of memory (OOMKilled)"
        if reason in _TERMINAL_REASONS:
            return f"pod {name}: {reason} after {restarts} restarts, last exit code {last.get('exitCode', 'none')}"
        if restarts >= _MAX_RESTARTS:
            return f"pod {name} restarted {restarts} times, last exit code {last.get('exitCode', 'none')}"
    return ""


def waiting(pod: Document) -> str:
    """Return what a pod is waiting for, "" if it is ready."""
    if is_ready(pod):
        return ""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    for container in status.get("containerStatuses") or []:
        if reason := ((container.get("state") or {}).get("waiting") or {}).get("reason"):
            return f"pod {name}: {reason}"
    unmet = [item.get("message", item["type"]) for item in status.get("conditions") or [] if item["status"] != "True"]
    return f"pod {name} is {status.get('phase', 'Pending')}" + (f": {unmet[0]}" if unmet else "")


def cannot_start(pod: Document) -> str:
    """Return why a pod that is not ready has failed, or which room it lacks; "" if it may just be starting."""
    if is_ready(pod):
        return ""
    found = pod.get("status", {}).get("conditions") or []
    unschedulable = any(item["type"] == "PodScheduled" and item.get("reason") == "Unschedulable" for item in found)
    return failure(pod) or (waiting(pod) if unschedulable else "")


def pod_of(pod: Document, deployment: Document) -> Pod:
    """Return how to reach a pod, and the route it was nudged for."""
    generation = (pod["metadata"].get("annotations") or {}).get(ROUTE_ANNOTATION, "").partition(".")[0]
    started = pod["status"].get("startTime")
    return Pod(
        name=pod["metadata"]["name"],
        address=pod["status"].get("podIP", ""),
        management_port=container_port(deployment, {"management", "metrics"}, 9090),
        ready=is_ready(pod),
        started_at=datetime.fromisoformat(started).timestamp() if started else 0.0,
        route_generation=int(generation) if generation.isdigit() else None,
    )


def _expression(expression: Document) -> str:
    key, values = expression["key"], ",".join(expression.get("values") or [])
    forms: dict[str, str] = {
        "In": f"{key} in ({values})",
        "NotIn": f"{key} notin ({values})",
        "Exists": key,
        "DoesNotExist": f"!{key}",
    }
    return forms[expression["operator"]]


def _stalled(deployment: Document) -> str:
    """Return why pods cannot be created, or that a rolling update has exceeded the Deployment's deadline."""
    return _message(deployment, "ReplicaFailure", "True") or _message(deployment, "Progressing", "False")


def _message(deployment: Document, kind: str, status: str) -> str:
    found = deployment.get("status", {}).get("conditions") or []
    return next((item.get("message", kind) for item in found if (item["type"], item["status"]) == (kind, status)), "")
