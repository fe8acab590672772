"""The status of Deployments and pods: rolled out or not, ready or not, failed or only slow."""

from __future__ import annotations

from typing import Any

import pytest

from promoter.adapters.pods import canary_view, failure, selector_of, stable_view, waiting
from promoter.errors import PermanentError

Document = dict[str, Any]


def pod(*, ready: bool = False, version: str = "2", **container: Any) -> Document:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": "p", "annotations": {"creditrisk.io/model-version": version}},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [container] if container else []},
    }


def deployment(*counts: int, version: str = "2", observed: int = 4) -> Document:
    names = ("replicas", "updatedReplicas", "availableReplicas")
    return {
        "metadata": {"name": "d", "generation": 4, "annotations": {"creditrisk.io/stable-template": "t"}},
        "spec": {"replicas": 2, "template": {"metadata": {"annotations": {"creditrisk.io/model-version": version}}}},
        "status": {"observedGeneration": observed, **dict(zip(names, counts, strict=True))},
    }


@pytest.mark.parametrize(
    ("counts", "observed", "rolled_out"),
    [((2, 2, 2), 4, True), ((3, 2, 2), 4, False), ((2, 1, 2), 4, False), ((2, 2, 1), 4, False), ((2, 2, 2), 3, False)],
)
def test_rolled_out_means_every_pod_is_updated_available_and_observed(
    counts: tuple[int, int, int], observed: int, rolled_out: bool
) -> None:
    view = stable_view(deployment(*counts, observed=observed))
    assert (view.version, view.rolled_out) == ("2", rolled_out)


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"restartCount": 1, "lastState": {"terminated": {"reason": "OOMKilled"}}}, "out of memory"),
        ({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
          "lastState": {"terminated": {"exitCode": 3}}}, "CrashLoopBackOff after 1 restarts, last exit code 3"),
        ({"restartCount": 0, "state": {"waiting": {"reason": "InvalidImageName"}}}, "InvalidImageName"),
        ({"restartCount": 2, "state": {"running": {}}}, "restarted 2 times"),
        ({"restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}, ""),
        ({"restartCount": 1, "state": {"running": {}}}, ""),
    ],
)  # fmt: skip
def test_only_a_state_in_which_waiting_cannot_help_is_a_failure(container: Document, reason: str) -> None:
    found = failure(pod(**container))
    assert (reason in found) if reason else found == ""


def test_a_waiting_pod_has_a_reason() -> None:
    assert waiting(pod(ready=True)) == ""
    assert waiting(pod(state={"waiting": {"reason": "ImagePullBackOff"}})) == "pod p: ImagePullBackOff"


def test_pods_of_another_version_do_not_make_a_canary_ready() -> None:
    view = canary_view(deployment(1, 1, 1), [pod(ready=True, version="1"), pod(ready=False)])
    assert view.ready == 0
    assert canary_view(deployment(1, 1, 1), [pod(ready=True)]).ready == 1


def selecting(**selector: Any) -> Document:
    return {"metadata": {"name": "scoring"}, "spec": {"selector": selector}}


def test_pods_are_selected_by_labels_and_expressions() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "zone", "operator": "NotIn", "values": ["c"]},
        {"key": "team", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    deployment = selecting(matchLabels={"app": "scoring"}, matchExpressions=expressions)
    assert selector_of(deployment) == "app=scoring,tier in (a,b),zone notin (c),team,!old"


def test_a_deployment_that_selects_by_expressions_alone_is_refused() -> None:
    deployment = selecting(matchExpressions=[{"key": "app", "operator": "Exists"}])
    with pytest.raises(PermanentError, match="Deployment scoring selects its pods by matchExpressions alone"):
        selector_of(deployment)


@pytest.mark.parametrize(
    ("conditions", "stalled"),
    [
        ([("Progressing", "True", "progressed"), ("Available", "False", "too few")], ""),
        ([("Progressing", "False", "has timed out progressing")], "has timed out progressing"),
        ([("Progressing", "False", "timed out"), ("ReplicaFailure", "True", "exceeded quota")], "exceeded quota"),
        ([("ReplicaFailure", "False", "over")], ""),
    ],
)
def test_a_deployment_whose_pods_cannot_start_says_why(conditions: list[tuple[str, str, str]], stalled: str) -> None:
    found = deployment(2, 2, 2)
    found["status"]["conditions"] = [dict(zip(("type", "status", "message"), c, strict=True)) for c in conditions]
    assert stable_view(found).stalled == stalled


def test_the_stable_view_counts_pods_and_says_what_one_is_waiting_for() -> None:
    found = deployment(2, 2, 1)
    starting = {**pod(restartCount=0, state={"waiting": {"reason": "ImagePullBackOff"}})}
    view = stable_view(found, [starting])
    assert (view.wanted, view.available) == (2, 1)
    assert view.waiting.endswith(": ImagePullBackOff")
    assert stable_view(None, [starting]).waiting == ""


def unschedulable(why: str) -> Document:
    found = pod()
    found["status"] |= {"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}]}  # fmt: skip
    return found


def test_a_stable_pod_that_fits_on_no_node_or_crashes_stalls_its_deployment_but_one_that_starts_does_not() -> None:
    found, why = deployment(3, 1, 2), "0/1 nodes are available: 1 Insufficient cpu."
    assert stable_view(found, [pod(ready=True), unschedulable(why)]).stalled == f"pod p is Pending: {why}"
    crashing = pod(restartCount=1, state={"waiting": {"reason": "CrashLoopBackOff"}})
    assert "CrashLoopBackOff" in stable_view(found, [crashing]).stalled
    starting = pod(restartCount=0, state={"running": {}})
    restarted_long_ago = pod(ready=True, restartCount=7, state={"running": {}})
    assert stable_view(found, [starting, restarted_long_ago]).stalled == ""


def test_stable_pods_of_another_version_than_the_template_are_outdated() -> None:
    old, new = pod(ready=True, version="1"), pod(version="2")
    old["metadata"]["name"] = "old"
    assert stable_view(deployment(2, 1, 1), [old, new]).outdated == ("old",)
    assert stable_view(deployment(2, 2, 2), [new]).outdated == ()


def test_a_canary_that_is_admitted_in_part_says_why() -> None:
    found = deployment(1, 1, 1)
    assert canary_view(found, [pod(ready=True)]).refused == ""
    found["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: few"}]
    view = canary_view(found, [pod(ready=True)])
    assert (view.ready, view.waiting, view.refused) == (1, "", "exceeded quota: few")
