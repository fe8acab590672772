"""The Cluster port: what is sent to the API server, and what its answers mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.adapters.artifact_volume import mounted
from promoter.adapters.kubernetes import KubernetesCluster
from promoter.adapters.rest import _checked
from promoter.api.resource import Owner
from promoter.api.status import Event
from promoter.decision.actions import SetStableVersion
from promoter.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    PermanentError,
    RetryableError,
    TargetForbiddenError,
)
from promoter.ports import VersionFiles

Document = dict[str, Any]
OWNER = Owner("bank", "loans", "u-1")
CONFIG_MAPS = "/api/v1/namespaces/bank/configmaps"


class Kube:
    """An API server with these objects; it refuses an Event that it has already, and objects in `forbidden`."""

    def __init__(self, **objects: Document) -> None:
        self.objects, self.posted = objects, list[Document]()
        self.forbidden: set[str] = set()
        # The ConfigMaps that hold files, by name, with their owner's uid; None if the operator did not make them.
        self.copies: dict[str, str | None] = {}
        self.applied: list[Document] = []

    async def names(self, path: str, label_selector: str) -> frozenset[str]:
        assert path == CONFIG_MAPS
        if "configmaps" in self.forbidden:
            raise ForbiddenError("GET configmaps: 403 no")
        label, _, uid = label_selector.partition("=")
        assert label == "creditrisk.io/artifacts-of"
        return frozenset(name for name, owner in self.copies.items() if owner and uid in {"", owner})

    async def apply(self, path: str, document: Document) -> None:
        self.applied.append(document)

    async def get(self, path: str, **_: str) -> Document | None:
        name = path.rpartition("/")[2]
        if name in self.forbidden:
            raise ForbiddenError(f"GET {path}: 403 no")
        return self.objects.get(name.replace("-", "_"))

    async def request(self, method: str, path: str, body: Document | None = None, *_: object) -> Document:
        if method == "DELETE":
            del self.copies[path.removeprefix(f"{CONFIG_MAPS}/")]
            return {}
        assert body
        if path == CONFIG_MAPS:
            if body["metadata"]["name"] in self.copies:
                raise ConflictError("409 exists")
            self.copies[body["metadata"]["name"]] = body["metadata"]["labels"]["creditrisk.io/artifacts-of"]
            self.posted.append(body)
            return {}
        assert (method, path) == ("POST", "/api/v1/namespaces/bank/events")
        if body["metadata"]["name"] in {event["metadata"]["name"] for event in self.posted}:
            raise ConflictError("409 exists")
        self.posted.append(body)
        return {}


def cluster_of(kube: Kube) -> KubernetesCluster:
    return KubernetesCluster(kube)  # type: ignore[arg-type]


async def test_an_event_that_is_sent_again_after_a_crash_is_recorded_once() -> None:
    kube = Kube()
    event = Event(reason="Aborted", message="manually", type="Warning", at=1_800_000_000.5)
    for sent in (event, event, event.model_copy(update={"at": event.at + 60})):
        await cluster_of(kube).record_event(OWNER, sent)
    assert [(e["reason"], e["firstTimestamp"]) for e in kube.posted] == [
        ("Aborted", "2027-01-15T08:00:00Z"), ("Aborted", "2027-01-15T08:01:00Z")]  # fmt: skip


@pytest.mark.parametrize("with_pods", [True, False])
async def test_a_target_without_labels_to_select_by_is_refused(with_pods: bool) -> None:
    selector = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    deployment = {"kind": "Deployment", "metadata": {"name": "scoring"}, "spec": {"selector": selector}}
    with pytest.raises(PermanentError, match="add matchLabels"):
        await cluster_of(Kube(scoring=deployment)).snapshot(OWNER, "scoring", with_pods=with_pods)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, RetryableError), (403, ForbiddenError), (409, ConflictError), (422, InvalidRequestError),
     (429, RetryableError), (500, RetryableError), (503, RetryableError)],
)  # fmt: skip
def test_errors_are_typed_by_whether_a_retry_may_help(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"PATCH /x: {status} no") as raised:
        _checked(status, {"message": "no"}, "PATCH /x")
    assert type(raised.value) is kind


@pytest.mark.parametrize("name", ["scoring", "scoring-canary", "scoring-route"])
async def test_a_target_without_permission_names_the_value_and_the_role_to_change(name: str) -> None:
    kube = Kube()
    kube.forbidden = {name}
    with pytest.raises(TargetForbiddenError) as raised:
        await cluster_of(kube).snapshot(OWNER, "scoring", with_pods=False)
    message = str(raised.value)
    assert message.startswith("the operator has no permission for Deployment scoring; add scoring to `targets` in the")
    assert "`operator.targets`" in message
    assert "the Role model-promotion-operator in namespace bank" in message
    assert f"{name}: 403 no" in message


@pytest.mark.parametrize(
    ("owners", "whose"),
    [([{"kind": "ModelPromotion", "name": "cards", "uid": "u-2"}], "ModelPromotion cards"), ([], "no ModelPromotion")],
)
async def test_a_canary_of_something_else_is_left_alone_and_named(owners: list[Document], whose: str) -> None:
    canary = {"kind": "Deployment", "metadata": {"name": "scoring-canary", "ownerReferences": owners}}
    with pytest.raises(PermanentError, match=f"Deployment scoring-canary belongs to {whose}, not to this"):
        await cluster_of(Kube(scoring_canary=canary)).snapshot(OWNER, "scoring", with_pods=False)


async def test_a_route_of_an_older_operator_is_read_as_none_and_thereby_rewritten() -> None:
    route = (
        '{"generation": 5, "salt": "m", "canary": {"version": "2", "url": "http://c", "weight": 5, "raisedFrom": 0}}'
    )
    owners = [{"kind": "ModelPromotion", "name": "loans", "uid": "u-1"}]
    config_map = {"kind": "ConfigMap", "metadata": {"name": "scoring-route", "ownerReferences": owners},
                  "data": {"route.json": route}}  # fmt: skip
    snapshot = await cluster_of(Kube(scoring_route=config_map)).snapshot(OWNER, "scoring", with_pods=False)
    assert (snapshot.route, snapshot.stable.exists) == (None, False)


FILES = VersionFiles("credit-risk", "7", "run", {"model.onnx": "d" * 64}, {}, {"model.onnx": b"graph"})


async def test_a_copy_is_created_once_and_completed_if_a_part_is_missing() -> None:
    kube = Kube()
    large = replace(FILES, content={"model.onnx": b"x" * 1_000_000})
    names = await cluster_of(kube).keep_artifacts(OWNER, "scoring", large)
    assert (len(names), set(kube.copies)) == (2, set(names))
    del kube.copies[names[1]]
    assert await cluster_of(kube).keep_artifacts(OWNER, "scoring", large) == names
    assert [found["metadata"]["name"] for found in kube.posted] == [*names, names[1]]
    await cluster_of(kube).delete_artifacts(OWNER, names)
    assert kube.copies == {}


async def test_a_copy_that_a_deleted_modelpromotion_left_is_replaced() -> None:
    kube = Kube()
    (name,) = await cluster_of(kube).keep_artifacts(Owner("bank", "loans", "u-0"), "scoring", FILES)
    assert await cluster_of(kube).keep_artifacts(OWNER, "scoring", FILES) == (name,)
    assert kube.copies == {name: "u-1"}


async def test_a_configmap_of_somebody_else_is_left_alone_and_named() -> None:
    kube = Kube()
    (name,) = await cluster_of(kube).keep_artifacts(OWNER, "scoring", FILES)
    kube.copies = {name: None}
    with pytest.raises(PermanentError, match=f"ConfigMap {name} exists and was not created by the operator; delete or"):
        await cluster_of(kube).keep_artifacts(OWNER, "scoring", FILES)
    assert kube.copies == {name: None}


async def test_the_snapshot_lists_the_copies_of_this_promotion() -> None:
    kube = Kube()
    kube.copies = {"mine": "u-1", "another's": "u-2", "nobody's": None}
    snapshot = await cluster_of(kube).snapshot(OWNER, "scoring", with_pods=False)
    assert (snapshot.artifacts, snapshot.artifacts_error) == (frozenset({"mine"}), "")


async def test_a_role_without_permission_to_list_configmaps_blocks_nothing_and_is_reported() -> None:
    kube = Kube()
    kube.forbidden = {"configmaps"}
    snapshot = await cluster_of(kube).snapshot(OWNER, "scoring", with_pods=False)
    assert snapshot.artifacts == frozenset()
    assert snapshot.artifacts_error.startswith("the operator has no permission to list ConfigMaps; upgrade its chart")
    assert "the Role model-promotion-operator in namespace bank" in snapshot.artifacts_error


STABLE: Document = {
    "kind": "Deployment",
    "metadata": {"name": "scoring"},
    "spec": {"template": {"spec": {"containers": [{"name": "proxy"}, {"name": "api", "ports": [{"name": "http"}]}]}}},
}


async def test_the_stable_pods_get_their_version_and_the_volume_of_its_files_in_one_apply() -> None:
    kube = Kube()
    await cluster_of(kube).set_stable_version(OWNER, STABLE, SetStableVersion("7", ("m-0", "m-1")))
    (applied,) = kube.applied
    template = applied["spec"]["template"]
    assert template["metadata"] == {"annotations": {"creditrisk.io/model-version": "7"}}
    assert mounted(template) == ("m-0", "m-1")
    mount = {"name": "model-artifacts", "mountPath": "/etc/creditrisk/model", "readOnly": True}
    assert template["spec"]["containers"] == [{"name": "api", "volumeMounts": [mount]}]


async def test_without_a_copy_the_operator_owns_the_annotation_alone() -> None:
    kube = Kube()
    await cluster_of(kube).set_stable_version(OWNER, STABLE, SetStableVersion("7"))
    assert kube.applied[0]["spec"] == {
        "template": {"metadata": {"annotations": {"creditrisk.io/model-version": "7"}}}}  # fmt: skip


@pytest.mark.parametrize("available", [1, 2])
async def test_pods_are_listed_unasked_while_the_stable_ones_are_being_replaced(available: int) -> None:
    selector = {"matchLabels": {"app": "scoring"}}
    status = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": available}
    pod: Document = {"metadata": {"name": "scoring-0"}, "status": {"phase": "Pending"}}
    kube = Kube(
        scoring={**STABLE, "spec": {**STABLE["spec"], "replicas": 2, "selector": selector}, "status": status},
        pods={"items": [pod]},
    )
    snapshot = await cluster_of(kube).snapshot(OWNER, "scoring", with_pods=False)
    assert len(snapshot.stable_pods) == (available < 2)
