"""Autoscalers: which ones are a target's, and that they get back exactly what they had."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from promoter.adapters.autoscalers import Autoscalers
from promoter.adapters.kubernetes import KubernetesCluster
from promoter.api.resource import Owner
from promoter.decision.observation import AutoscalerView
from promoter.errors import ForbiddenError, InvalidRequestError
from promoter.ports import ScaleInHold

Document = dict[str, Any]
OWNER = Owner("bank", "loans", "u-1")
DOWN: Document = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
UP: Document = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}


class Server:
    """An API server with one autoscaler, as far as server-side apply and defaults of a behavior go."""

    def __init__(self, behavior: Document | None = None, api_version: str = "v2") -> None:
        self.api_version, self.forbidden, self.owned = api_version, False, False
        reference = {"kind": "Deployment", "name": "scoring"}
        self.autoscaler: Document = {
            "metadata": {"namespace": "bank", "name": "scoring"},
            "spec": {"scaleTargetRef": reference, "maxReplicas": 5},
        }
        if behavior is not None:
            self.autoscaler["spec"]["behavior"] = {"scaleDown": {**DOWN, **behavior}, "scaleUp": copy.deepcopy(UP)}

    @property
    def policy(self) -> str | None:
        found: str | None = self.autoscaler["spec"].get("behavior", {}).get("scaleDown", {}).get("selectPolicy")
        return found

    def set(self, **changes: Any) -> None:
        """Change the scale-in behavior, as Helm or kubectl would."""
        self.autoscaler["spec"]["behavior"]["scaleDown"] |= changes
        self.owned = self.owned and "selectPolicy" not in changes

    async def get(self, path: str, **_: str) -> Document | None:
        if self.forbidden:
            raise ForbiddenError("GET horizontalpodautoscalers: 403 no")
        if path.startswith(f"/apis/autoscaling/{self.api_version}/"):
            assert "/namespaces/bank/" in path or path.endswith(f"{self.api_version}/horizontalpodautoscalers")
            return {"items": [self.autoscaler]}
        return None

    async def apply(self, path: str, document: Document) -> None:
        assert path == f"/apis/autoscaling/{self.api_version}/namespaces/bank/horizontalpodautoscalers/scoring"
        assert document["apiVersion"] == f"autoscaling/{self.api_version}"
        metadata, spec = self.autoscaler["metadata"], self.autoscaler["spec"]
        metadata["annotations"] = document["metadata"]["annotations"]
        if "spec" in document:
            behavior = spec.setdefault("behavior", {"scaleDown": copy.deepcopy(DOWN), "scaleUp": copy.deepcopy(UP)})
            behavior["scaleDown"]["selectPolicy"] = document["spec"]["behavior"]["scaleDown"]["selectPolicy"]
            self.owned = True
        elif self.owned:
            spec["behavior"]["scaleDown"]["selectPolicy"] = "Max"
            self.owned = False

    async def request(self, method: str, path: str, body: list[Document], *_: object) -> Document:
        test, *removals = body
        assert (method, test["op"], test["path"]) == ("PATCH", "test", "/spec/behavior")
        if self.autoscaler["spec"].get("behavior") != test["value"]:
            raise InvalidRequestError("422 the test failed")
        assert [removal["path"].replace("~1", "/") for removal in removals] == [
            "/spec/behavior", *(f"/metadata/annotations/{name}" for name in self.autoscaler["metadata"]["annotations"])
        ]  # fmt: skip
        del self.autoscaler["spec"]["behavior"], self.autoscaler["metadata"]["annotations"]
        return {}


def autoscalers_of(server: Server) -> Autoscalers:
    return Autoscalers(server)  # type: ignore[arg-type]


async def seen(server: Server, owner: Owner = OWNER) -> AutoscalerView:
    (view,), error = await autoscalers_of(server).of_target(owner, "scoring")
    assert error == ""
    return view


async def hold(server: Server, owner: Owner = OWNER) -> None:
    autoscalers = autoscalers_of(server)
    (view,), _ = await autoscalers.of_target(owner, "scoring")
    await autoscalers.disable_scale_in(owner, view.name, view.policy)


async def restore(server: Server) -> None:
    autoscalers = autoscalers_of(server)
    (found,) = await autoscalers.holds("bank")
    await autoscalers.restore_scale_in(found.namespace, found.autoscaler, found.policy)


@pytest.mark.parametrize("api_version", ["v2", "v2beta2"])
@pytest.mark.parametrize(
    "behavior", [None, {}, {"selectPolicy": "Min"}, {"stabilizationWindowSeconds": 30}], ids=str
)  # fmt: skip
async def test_an_autoscaler_gets_back_exactly_what_it_had(behavior: Document | None, api_version: str) -> None:
    server = Server(behavior, api_version)
    before = copy.deepcopy(server.autoscaler["spec"])
    await hold(server)
    assert server.policy == "Disabled"
    held = await seen(server)
    assert (held.scale_in_disabled, held.held) == (True, True)
    await restore(server)
    assert server.autoscaler["spec"] == before
    assert not server.autoscaler["metadata"].get("annotations")
    assert not (await seen(server)).held


async def test_what_helm_changes_meanwhile_stays_and_a_policy_it_sets_is_the_one_to_restore() -> None:
    server = Server()
    await hold(server)
    server.set(stabilizationWindowSeconds=30)
    await restore(server)
    assert server.autoscaler["spec"]["behavior"]["scaleDown"] == {**DOWN, "stabilizationWindowSeconds": 30}

    await hold(server)
    server.set(selectPolicy="Min")
    view = await seen(server)
    assert (view.scale_in_disabled, view.policy) == (False, "Min")
    await hold(server)
    assert server.policy == "Disabled"
    await restore(server)
    assert server.policy == "Min"

    await hold(server)
    server.set(selectPolicy="Max")
    await restore(server)
    assert server.policy == "Max"


async def test_one_that_never_scales_in_is_left_as_it_is() -> None:
    view = await seen(Server({"selectPolicy": "Disabled"}))
    assert (view.scale_in_disabled, view.held) == (True, False)


async def test_the_hold_of_a_deleted_promotion_is_taken_over_with_what_it_recorded() -> None:
    server = Server({"selectPolicy": "Min"})
    await hold(server, Owner("bank", "loans", "u-0"))
    view = await seen(server)
    assert view == AutoscalerView("scoring", scale_in_disabled=False, held=False, policy="Min")
    await hold(server)
    assert await autoscalers_of(server).holds("") == (ScaleInHold("bank", "scoring", "u-1", "Min"),)
    await restore(server)
    assert server.policy == "Min"


async def test_only_autoscalers_of_the_target_count() -> None:
    server = Server()
    for other in ({"kind": "Deployment", "name": "mlflow"}, {"kind": "StatefulSet", "name": "scoring"}):
        server.autoscaler["spec"]["scaleTargetRef"] = other
        assert await autoscalers_of(server).of_target(OWNER, "scoring") == ((), "")


async def test_a_cluster_without_a_behavior_in_its_api_has_no_autoscaler_to_change() -> None:
    assert await autoscalers_of(Server(api_version="v1")).of_target(OWNER, "scoring") == ((), "")


async def test_a_role_without_permission_is_named() -> None:
    server = Server()
    server.forbidden = True
    found, error = await autoscalers_of(server).of_target(OWNER, "scoring")
    assert found == ()
    assert error.startswith("the operator has no permission to list HorizontalPodAutoscalers; upgrade its chart")
    assert "the Role model-promotion-operator in namespace bank" in error


async def test_the_cluster_port_passes_calls_on() -> None:
    server = Server()
    cluster = KubernetesCluster(server)  # type: ignore[arg-type]
    await cluster.scale_in_holds("bank")
    await cluster.disable_scale_in(OWNER, "scoring", "Max")
    (found,) = await cluster.scale_in_holds("bank")
    assert (server.policy, found.policy) == ("Disabled", "Max")
    await cluster.restore_scale_in("bank", "scoring", found.policy)
    assert (server.policy, await cluster.scale_in_holds("bank")) == ("Max", ())
