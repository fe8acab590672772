"""Keep HorizontalPodAutoscalers from scaling the stable pods in, and give back what they had before.

What to restore is recorded in the object itself, so that it outlives the operator and the ModelPromotion
(docs/adr/0015).
"""

from __future__ import annotations

from typing import Any

from promoter.adapters.rest import JSON_PATCH, KubeClient
from promoter.api.resource import GROUP, Owner
from promoter.decision.observation import AutoscalerView
from promoter.errors import ForbiddenError, InvalidRequestError
from promoter.ports import ScaleInHold

Document = dict[str, Any]
# The newest API version with a behavior that a cluster serves: v2 from 1.23 on, v2beta2 up to 1.25.
_API_VERSIONS = ("v2", "v2beta2")
# The uid of the ModelPromotion that keeps an autoscaler from scaling in, and the policy to restore.
HOLDER_ANNOTATION, POLICY_ANNOTATION = f"{GROUP}/scale-in-disabled-for", f"{GROUP}/scale-in-policy"
DISABLED = "Disabled"
# In place of a policy: there was no behavior at all.
_NONE, _DEFAULT = "none", "Max"
# What the API server fills in beside the policy where there was no behavior before.
_FILLED_IN: Document = {
    "scaleDown": {"selectPolicy": DISABLED, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": _DEFAULT,
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    },
}


class Autoscalers:
    """The HorizontalPodAutoscalers of one cluster."""

    def __init__(self, kube: KubeClient) -> None:
        """Take a client."""
        self._kube, self._version = kube, _API_VERSIONS[0]

    async def of_target(self, owner: Owner, target: str) -> tuple[tuple[AutoscalerView, ...], str]:
        """Return the autoscalers of a Deployment, and why they could not be listed."""
        try:
            listed = await self._list(owner.namespace)
        except ForbiddenError as error:
            return (), (
                "the operator has no permission to list HorizontalPodAutoscalers; upgrade its chart, or the Role "
                f"model-promotion-operator in namespace {owner.namespace} ({error})"
            )
        return tuple(autoscaler_view(found, owner.uid) for found in listed if scales(found, target)), ""

    async def holds(self, namespace: str) -> tuple[ScaleInHold, ...]:
        """Return which autoscalers of a namespace ("" for all) are kept from scaling in, and for whom."""
        found = (hold_of(document) for document in await self._list(namespace))
        return tuple(hold for hold in found if hold)

    async def disable_scale_in(self, owner: Owner, name: str, policy: str) -> None:
        """Keep an autoscaler from scaling in, and record in it the policy to restore."""
        annotations = {HOLDER_ANNOTATION: owner.uid, POLICY_ANNOTATION: policy}
        await self._apply(owner.namespace, name, annotations, DISABLED)

    async def restore_scale_in(self, namespace: str, name: str, policy: str) -> None:
        """Restore an autoscaler's policy; where there was no behavior before, there is none afterwards."""
        if policy == _NONE:
            patch = [
                # Somebody else's changes of the behavior stay.
                {"op": "test", "path": "/spec/behavior", "value": _FILLED_IN},
                {"op": "remove", "path": "/spec/behavior"},
                *({"op": "remove", "path": f"/metadata/annotations/{annotation.replace('/', '~1')}"}
                  for annotation in (HOLDER_ANNOTATION, POLICY_ANNOTATION)),
            ]  # fmt: skip
            try:
                await self._kube.request("PATCH", _path(self._version, namespace, name), patch, JSON_PATCH)
            except InvalidRequestError:
                policy = _DEFAULT
            else:
                return
        # An apply without the policy removes it, and the API server fills in its default. Thus the field belongs to the
        # operator afterwards only if it has to differ from the default.
        await self._apply(namespace, name, {}, "" if policy == _DEFAULT else policy)

    async def _list(self, namespace: str) -> list[Document]:
        for version in dict.fromkeys((self._version, *_API_VERSIONS)):
            # None: the cluster does not serve this version.
            found = await self._kube.get(_path(version, namespace))
            if found is not None:
                self._version = version
                return list(found.get("items") or ())
        return []

    async def _apply(self, namespace: str, name: str, annotations: dict[str, str], policy: str) -> None:
        document: Document = {
            "apiVersion": f"autoscaling/{self._version}",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "annotations": annotations},
        }
        if policy:
            document["spec"] = {"behavior": {"scaleDown": {"selectPolicy": policy}}}
        await self._kube.apply(_path(self._version, namespace, name), document)


def scales(autoscaler: Document, target: str) -> bool:
    """Return whether an autoscaler scales a Deployment."""
    reference = autoscaler["spec"]["scaleTargetRef"]
    return (reference["kind"], reference["name"]) == ("Deployment", target)


def autoscaler_view(autoscaler: Document, uid: str) -> AutoscalerView:
    """Return what a decision needs of an autoscaler; `uid` is the ModelPromotion's."""
    policy, hold = _policy(autoscaler), hold_of(autoscaler)
    mine = hold is not None and hold.uid == uid
    return AutoscalerView(
        name=autoscaler["metadata"]["name"],
        # Whoever made the autoscaler may have disabled it too. Another ModelPromotion's hold may end at any time.
        scale_in_disabled=policy == DISABLED and (mine or hold is None),
        held=mine,
        policy=hold.policy if hold else policy,
    )


def hold_of(autoscaler: Document) -> ScaleInHold | None:
    """Return by whom an autoscaler is kept from scaling in, None if by nobody."""
    metadata, policy = autoscaler["metadata"], _policy(autoscaler)
    annotations = metadata.get("annotations") or {}
    if HOLDER_ANNOTATION not in annotations:
        return None
    # A policy that was set since replaces the recorded one.
    before = annotations.get(POLICY_ANNOTATION, _DEFAULT) if policy == DISABLED else policy
    return ScaleInHold(metadata["namespace"], metadata["name"], annotations[HOLDER_ANNOTATION], before)


def _policy(autoscaler: Document) -> str:
    down = (autoscaler["spec"].get("behavior") or {}).get("scaleDown") or {}
    return str(down.get("selectPolicy", _NONE))


def _path(version: str, namespace: str, name: str = "") -> str:
    within = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/autoscaling/{version}/{within}horizontalpodautoscalers" + (f"/{name}" if name else "")
