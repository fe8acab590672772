"""The Cluster port over the Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from typing import Any

from pydantic import ValidationError

from promoter.adapters import pods
from promoter.adapters.artifact_copies import OWNER_LABEL, config_maps
from promoter.adapters.artifact_volume import volume, volume_mount
from promoter.adapters.autoscalers import Autoscalers
from promoter.adapters.canary_manifests import TRACK_LABEL, canary_deployment, canary_service, scoring_container
from promoter.adapters.owner import owner_reference
from promoter.adapters.rest import FIELD_MANAGER, JSON_PATCH, MERGE, KubeClient
from promoter.api.resource import (
    ACTION_ANNOTATION,
    API_VERSION,
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    VERSION_ANNOTATION,
    Owner,
    canary_name,
    route_name,
)
from promoter.api.route import Route
from promoter.api.status import Event
from promoter.api.timestamps import to_whole_seconds_text
from promoter.decision.actions import ApplyCanary, SetStableVersion
from promoter.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    PermanentError,
    TargetForbiddenError,
)
from promoter.ports import Pod, ScaleInHold, Snapshot, VersionFiles

Document = dict[str, Any]


class KubernetesCluster:
    """The Cluster port, for one cluster."""

    def __init__(self, kube: KubeClient) -> None:
        """Take a client."""
        self._kube, self._autoscalers = kube, Autoscalers(kube)

    async def snapshot(self, owner: Owner, target: str, *, with_pods: bool) -> Snapshot:
        """Return the current objects of a promotion.

        Listing pods is expensive: only if asked for, or while the stable ones are being replaced.

        Raises:
            RetryableError: the API server did not answer.
            TargetForbiddenError: the operator has no permission for this target.
            PermanentError: canary or route belong to something else, or the target has no labels to select by.
        """
        stable, canary, route = await self._target_objects(owner, target)
        (artifacts, artifacts_error), (autoscalers, autoscalers_error) = await asyncio.gather(
            self._artifacts(owner), self._autoscalers.of_target(owner, target)
        )
        for found in (canary, route):
            _check_owner(owner, found)
        if stable is None:
            return Snapshot(canary=pods.canary_view(canary, []), route=_route(route), artifacts=artifacts,
                            artifacts_error=artifacts_error, autoscalers=autoscalers,
                            autoscalers_error=autoscalers_error)  # fmt: skip
        selector = pods.selector_of(stable)
        stable_pods: list[Document] = []
        canary_pods: list[Document] = []
        if with_pods or not pods.rolled_out(stable):
            listed = [self._pods(owner.namespace, selector)]
            if canary is not None:
                listed.append(self._pods(owner.namespace, pods.selector_of(canary)))
            found_pods = await asyncio.gather(*listed)
            stable_pods = [pod for pod in found_pods[0] if not _is_canary(pod)]
            canary_pods = found_pods[1] if canary is not None else []
        return Snapshot(
            stable=pods.stable_view(stable, stable_pods),
            canary=pods.canary_view(canary, canary_pods),
            route=_route(route),
            stable_pods=tuple(pods.pod_of(pod, stable) for pod in stable_pods),
            canary_pods=tuple(pods.pod_of(pod, stable) for pod in canary_pods),
            deployment=stable,
            artifacts=artifacts,
            artifacts_error=artifacts_error,
            autoscalers=autoscalers,
            autoscalers_error=autoscalers_error,
        )

    async def save_status(self, owner: Owner, status: Document) -> None:
        """Replace the whole status; a merge would keep removed fields."""
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": owner.uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        await self._kube.request("PATCH", f"{_own(owner.namespace, owner.name)}/status", patch, JSON_PATCH)

    async def apply_route(self, owner: Owner, target: str, route: Route) -> None:
        """Create or update the route's ConfigMap."""
        name = route_name(target)
        await self._kube.apply(_core(owner.namespace, "configmaps", name), {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [owner_reference(owner)]},
            "data": {"route.json": route.to_json()},
        })  # fmt: skip

    async def nudge(self, owner: Owner, pods: tuple[Pod, ...], generation: int) -> None:
        """Make the kubelets of these pods sync their volumes now: any change of a pod does."""
        patch = {"metadata": {"annotations": {_ROUTE: f"{generation}.{time.time_ns()}"}}}
        late = [pod for pod in pods if pod.route_generation != generation]
        await asyncio.gather(*(
            self._kube.request("PATCH", _core(owner.namespace, "pods", pod.name), patch, MERGE) for pod in late
        ))  # fmt: skip

    async def apply_canary(self, owner: Owner, stable: Document, canary: ApplyCanary) -> None:
        """Create or update the canary's Deployment and Service."""
        service = canary_service(owner, stable)
        name = service["metadata"]["name"]
        await self._kube.apply(_core(owner.namespace, "services", name), service)
        deployment = canary_deployment(owner, stable, canary)
        await self._kube.apply(_deployment(owner.namespace, name), deployment)

    async def delete_canary(self, owner: Owner, target: str) -> None:
        """Delete the canary's Deployment and Service."""
        name, options = canary_name(target), {"propagationPolicy": "Background"}
        await self._kube.request("DELETE", _deployment(owner.namespace, name), options)
        await self._kube.request("DELETE", _core(owner.namespace, "services", name), options)

    async def set_stable_version(self, owner: Owner, stable: Document, wanted: SetStableVersion) -> None:
        """Apply what the operator owns of the stable pods: the annotation with their version, the volume of its files.

        An apply without the volume removes it.
        """
        name = stable["metadata"]["name"]
        template: Document = {"metadata": {"annotations": {VERSION_ANNOTATION: wanted.version}}}
        if wanted.config_maps:
            template["spec"] = {
                "volumes": [volume(wanted.config_maps)],
                "containers": [{"name": scoring_container(stable), "volumeMounts": [volume_mount()]}],
            }
        await self._kube.apply(_deployment(owner.namespace, name), {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"template": template},
        })  # fmt: skip

    async def disable_scale_in(self, owner: Owner, name: str, policy: str) -> None:
        """Keep an autoscaler from scaling in, and record the policy to restore."""
        await self._autoscalers.disable_scale_in(owner, name, policy)

    async def restore_scale_in(self, namespace: str, name: str, policy: str) -> None:
        """Let an autoscaler scale in again, by this policy."""
        await self._autoscalers.restore_scale_in(namespace, name, policy)

    async def scale_in_holds(self, namespace: str) -> tuple[ScaleInHold, ...]:
        """Return the autoscalers of a namespace ("" for all) that are kept from scaling in."""
        return await self._autoscalers.holds(namespace)

    async def keep_artifacts(self, owner: Owner, target: str, files: VersionFiles) -> tuple[str, ...]:
        """Create the ConfigMaps that hold a version's files; those that exist have the same content by their name.

        Raises:
            RetryableError: the API server did not answer.
            PermanentError: it refused, or something else has one of the names.
        """
        documents = config_maps(owner, target, files)
        for document in documents:
            try:
                await self._kube.request("POST", _core(owner.namespace, "configmaps"), document)
            except ConflictError:
                await self._take_over(owner, document)
        return tuple(document["metadata"]["name"] for document in documents)

    async def delete_artifacts(self, owner: Owner, names: tuple[str, ...]) -> None:
        """Delete ConfigMaps."""
        for name in names:
            await self._kube.request("DELETE", _core(owner.namespace, "configmaps", name))

    async def clear_action(self, owner: Owner, value: str) -> None:
        """Remove the annotation of a handled action; one that was set meanwhile stays."""
        path = f"/metadata/annotations/{ACTION_ANNOTATION.replace('/', '~1')}"
        patch = [{"op": "test", "path": path, "value": value}, {"op": "remove", "path": path}]
        with contextlib.suppress(InvalidRequestError):
            await self._kube.request("PATCH", _own(owner.namespace, owner.name), patch, JSON_PATCH)

    async def record_event(self, owner: Owner, event: Event) -> None:
        """Record an Event on the ModelPromotion; its name shows whether that was done before."""
        text = f"{owner.uid} {event.at} {event.reason} {event.message}"
        happened = to_whole_seconds_text(event.at)
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{owner.name[:40]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"},
            "involvedObject": {"apiVersion": API_VERSION, "kind": KIND, "namespace": owner.namespace,
                               "name": owner.name, "uid": owner.uid},
            "type": event.type, "reason": event.reason, "message": event.message[:1024],
            "source": {"component": FIELD_MANAGER},
            "firstTimestamp": happened, "lastTimestamp": happened, "count": 1,
        }  # fmt: skip
        with contextlib.suppress(ConflictError):
            await self._kube.request("POST", f"/api/v1/namespaces/{owner.namespace}/events", document)

    async def _artifacts(self, owner: Owner) -> tuple[frozenset[str], str]:
        """Return the ConfigMaps with files of a promotion's versions, and why they could not be listed."""
        try:
            return await self._kube.names(_core(owner.namespace, "configmaps"), f"{OWNER_LABEL}={owner.uid}"), ""
        except ForbiddenError as error:
            # A Role of an older chart: rollouts work as before, by the registry.
            return frozenset(), (
                "the operator has no permission to list ConfigMaps; upgrade its chart, or the Role "
                f"model-promotion-operator in namespace {owner.namespace} ({error})"
            )

    async def _take_over(self, owner: Owner, document: Document) -> None:
        """Replace a ConfigMap that an earlier ModelPromotion of the same target left, if this one does not own it."""
        path, name = _core(owner.namespace, "configmaps"), document["metadata"]["name"]
        if name in await self._kube.names(path, f"{OWNER_LABEL}={owner.uid}"):
            return
        if name not in await self._kube.names(path, OWNER_LABEL):
            raise PermanentError(f"ConfigMap {name} exists and was not created by the operator; delete or rename it")
        await self._kube.request("DELETE", f"{path}/{name}")
        await self._kube.request("POST", path, document)

    async def _target_objects(
        self, owner: Owner, target: str
    ) -> tuple[Document | None, Document | None, Document | None]:
        """Return the stable Deployment, the canary's, and the route's ConfigMap."""
        try:
            return await asyncio.gather(
                self._kube.get(_deployment(owner.namespace, target)),
                self._kube.get(_deployment(owner.namespace, canary_name(target))),
                self._kube.get(_core(owner.namespace, "configmaps", route_name(target))),
            )
        except ForbiddenError as error:
            raise TargetForbiddenError(
                f"the operator has no permission for Deployment {target}; add {target} to `targets` in the values of "
                f"the operator's chart (`operator.targets` in the stack's), or to the Role model-promotion-operator "
                f"in namespace {owner.namespace} ({error})"
            ) from error

    async def _pods(self, namespace: str, selector: str) -> list[Document]:
        found = await self._kube.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
        return [pod for pod in (found or {}).get("items", []) if not pod["metadata"].get("deletionTimestamp")]


_ROUTE = pods.ROUTE_ANNOTATION


def _is_canary(pod: Document) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get(TRACK_LABEL) == "canary")


def _check_owner(owner: Owner, found: Document | None) -> None:
    owners = (found or {}).get("metadata", {}).get("ownerReferences") or []
    if found is not None and owner.uid not in {reference["uid"] for reference in owners}:
        whose = ", ".join(f"{reference['kind']} {reference['name']}" for reference in owners) or "no ModelPromotion"
        thing = f"{found['kind']} {found['metadata']['name']}"
        raise PermanentError(f"{thing} belongs to {whose}, not to this ModelPromotion; delete or rename it")


def _route(config_map: Document | None) -> Route | None:
    try:
        return Route.model_validate_json((config_map or {}).get("data", {}).get("route.json", ""))
    except ValidationError:
        # Not a route, or one of an older operator: it is rewritten.
        return None


def _own(namespace: str, name: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}"


def _deployment(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


def _core(namespace: str, kind: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")
