"""The Deployments and pods of a rollout, as far as whoever asks may see them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kubectl_promotion.cluster.kubectl import Document, Kubectl
from kubectl_promotion.errors import NOT_FOUND, CommandError
from promoter.api.resource import VERSION_ANNOTATION, canary_name
from promoter.api.timestamps import to_seconds


@dataclass(frozen=True)
class Pod:
    """A pod: the version it serves, whether it is ready, and if not, why.

    Attributes:
        started_at: Seconds since 1970, None if it has not started.
    """

    name: str
    version: str | None
    ready: bool
    condition: str
    restarts: int
    started_at: float | None


@dataclass(frozen=True)
class Workload:
    """A Deployment with its pods.

    Attributes:
        pods: None if they may not be listed.
    """

    name: str
    version: str | None
    wanted: int
    updated: int
    available: int
    pods: tuple[Pod, ...] | None


@dataclass(frozen=True)
class Workloads:
    """What serves the stable version, and what serves the canary.

    Attributes:
        hidden: Why something is not shown, "" if all is.
    """

    stable: Workload | None = None
    canary: Workload | None = None
    hidden: str = ""


def read_workloads(kubectl: Kubectl, namespace: str, target: str) -> Workloads:
    """Return the Deployments of a target and its canary; what cannot be read is left out, and `hidden` says why."""
    with ThreadPoolExecutor(2) as threads:
        reads = [threads.submit(_read, kubectl, namespace, name) for name in (target, canary_name(target))]
        (stable, problem), (canary, other) = (read.result() for read in reads)
    return Workloads(stable, canary, problem or other)


def _read(kubectl: Kubectl, namespace: str, name: str) -> tuple[Workload | None, str]:
    deployment, problem = _tolerantly(lambda: kubectl.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"))
    if deployment is None:
        return None, problem
    labels = deployment["spec"]["selector"].get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods, problem = _tolerantly(lambda: kubectl.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector))
    return _workload(deployment, pods), problem


def _tolerantly(get: Callable[[], Document]) -> tuple[Document | None, str]:
    try:
        return get(), ""
    except CommandError as error:
        return None, "" if error.exit_code == NOT_FOUND else str(error)


def _workload(deployment: Document, pods: Document | None) -> Workload:
    status = deployment.get("status") or {}
    found = None if pods is None else sorted(map(_pod, pods.get("items") or []), key=lambda pod: pod.name)
    return Workload(
        name=deployment["metadata"]["name"],
        version=_version(deployment["spec"]["template"]),
        wanted=deployment["spec"].get("replicas", 1),
        updated=status.get("updatedReplicas", 0),
        available=status.get("availableReplicas", 0),
        pods=None if found is None else tuple(found),
    )


def _pod(pod: Document) -> Pod:
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    ready = conditions.get("Ready", {}).get("status") == "True"
    return Pod(
        name=pod["metadata"]["name"],
        version=_version(pod),
        ready=ready,
        condition=_condition(pod, status, conditions, ready=ready),
        restarts=sum(container.get("restartCount", 0) for container in containers),
        started_at=to_seconds(status.get("startTime")),
    )


def _condition(pod: Document, status: Document, conditions: dict[str, Document], *, ready: bool) -> str:
    """Return a pod's condition in a few words, as `kubectl get pods` does and with the reason if it is not ready."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if ready:
        return "Ready"
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        if reason := (state.get("waiting") or state.get("terminated") or {}).get("reason"):
            return str(reason)
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Pending')}: {scheduled.get('message', '')}".removesuffix(": ")
    phase = str(status.get("phase", "Pending"))
    return "NotReady" if phase == "Running" else phase


def _version(thing: Document) -> str | None:
    found = ((thing.get("metadata") or {}).get("annotations") or {}).get(VERSION_ANNOTATION)
    return str(found) if found else None
