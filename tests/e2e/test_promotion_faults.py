"""What goes wrong around a rollout: killed operators and pods, deletions, upgrades. Clients notice none of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from e2e import bad_models as versions
from e2e.lanes import Api, Lane, api_of, on_a_lane, on_a_lane_of_its_own, sigkill
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LONG = [{"weight": 30, "duration": "10m"}]
OPERATOR = "app.kubernetes.io/name=operator"


def kill_operator(lane: Lane, phase: str) -> None:
    """Kill the operator in a phase, without a word of warning, and have another one started at once."""
    (pod,) = [pod for pod in lane.pods(OPERATOR, lane.operator_namespace) if ready(pod)]
    found = lane.wait_for(phase, lambda s: s.get("phase") == phase, 120)
    sigkill(pod)
    # A container that is killed again and again waits longer each time before it starts; a new pod does not.
    lane.site.kubectl(lane.operator_namespace, "delete", "pod", pod["metadata"]["name"], "--grace-period=1")
    lane.wait_until("a new operator", lambda: any(map(ready, lane.pods(OPERATOR, lane.operator_namespace))))
    assert found["phase"] == phase


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@on_a_lane_of_its_own
def test_an_operator_killed_in_each_phase_of_a_promotion_brings_it_to_its_end(lane: Lane) -> None:
    pause = {"pause": {"duration": "5s"}}
    lane.follow(steps=[{"weight": 30, "duration": "5s"}, pause, {"weight": 60, "duration": "5s"}])
    with lane.clients():
        version = lane.roll_out(versions.good)
        for phase in ("Starting", "Progressing", "Paused", "Promoting", "Finishing"):
            kill_operator(lane, phase)
        lane.assert_promoted(version)


@on_a_lane_of_its_own
def test_an_operator_killed_while_it_takes_a_version_back_does_so_all_the_same(lane: Lane) -> None:
    lane.follow(steps=LONG)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.site.kubectl(lane.namespace, "annotate", "mp/loans", "creditrisk.io/action=abort")
        kill_operator(lane, "RollingBack")
        lane.assert_rolled_back(version, "Aborted")
        another = lane.roll_out(versions.good)
        lane.wait_for("the next canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.point_to(lane.stable)
        kill_operator(lane, "Stopping")
        found = lane.wait_for("rest", lambda s: s["phase"] == "Idle")
        assert (found["history"][0]["version"], found["history"][0]["outcome"]) == (another, "Stopped")
        assert lane.served() == lane.stable


@on_a_lane_of_its_own
def test_deletion_in_mid_rollout_leaves_only_the_stable_version_with_the_operator_gone(lane: Lane) -> None:
    lane.follow(steps=LONG)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.site.kubectl(lane.namespace, "scale", "deployment/operator", "--replicas=0")
        lane.wait_until("the operator is gone", lambda: not lane.pods(OPERATOR))
        deleted = time.time()
        lane.remove()
        lane.wait_until("only the champion answers", lambda: {
            answer.version for answer in lane.load.since(time.time() - 1)} == {lane.stable})  # fmt: skip
        time.sleep(3)
        lane.site.kubectl(lane.namespace, "scale", "deployment/operator", "--replicas=1")
    assert lane.served() == lane.stable
    lane.assert_nobody_turned_back(version, until=deleted)


@on_a_lane
def test_a_killed_stable_pod_costs_no_request_and_does_not_end_the_rollout(lane: Lane) -> None:
    lane.follow(steps=[{"weight": 30, "duration": "15s"}, {"weight": 60, "duration": "5s"}])
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        name = lane.pods("creditrisk.io/track=stable")[0]["metadata"]["name"]
        lane.site.kubectl(lane.namespace, "delete", "pod", name, "--wait=false")
        lane.assert_promoted(version)


@on_a_lane
def test_a_killed_canary_pod_starts_the_rollout_over(lane: Lane) -> None:
    lane.follow(steps=[{"weight": 30, "duration": "8s"}])
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        (pod,) = lane.pods("creditrisk.io/track=canary")
        killed = time.time()
        sigkill(pod)
        found = lane.wait_for("version promoted", lambda s: s.get("stableVersion") == version)
        assert "CanaryLost" in lane.events(), found
        lane.assert_nobody_turned_back(version, until=killed)
        lane.wait_for("rest", lambda s: s["phase"] == "Idle")
    lane.stable = version


@on_a_lane
@pytest.mark.parametrize("program", ["helm"])
def test_an_upgrade_and_a_rollback_in_mid_rollout_keep_the_version_and_rebuild_the_canary(
    lane: Lane, program: str
) -> None:
    lane.follow(steps=LONG)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.helm_api("--set-string=podAnnotations.test=upgraded", program=program)
        lane.wait_until("the canary has the new template", lambda: lane.annotation("scoring-canary", "test"))
        for name in ("scoring", "scoring-canary"):
            lane.site.kubectl(lane.namespace, "rollout", "status", f"deployment/{name}", "--timeout=120s")
        assert lane.served() == lane.stable
        lane.helm("rollback", "api", program=program)
        lane.wait_until("the canary has the old template", lambda: not lane.annotation("scoring-canary", "test"))
        for name in ("scoring", "scoring-canary"):
            lane.site.kubectl(lane.namespace, "rollout", "status", f"deployment/{name}", "--timeout=120s")
        lane.wait_until("the version is told", lambda: lane.served() == lane.stable, 10)
        assert lane.status()["phase"] == "Progressing"
        lane.act("promote")
        lane.assert_promoted(version)


VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# By API group, resource and name ("" for any): what the operator may do there.
NEEDED: dict[tuple[str, str, str], set[str]] = {
    ("creditrisk.io", "modelpromotions", ""): {"list", "watch", "patch"},
    ("creditrisk.io", "modelpromotions/status", ""): {"patch"},
    ("apps", "deployments", ""): {"create"},
    ("apps", "deployments", "scoring"): {"create", "get", "patch"},
    ("apps", "deployments", "scoring-canary"): {"create", "get", "patch", "delete"},
    ("apps", "deployments", "mlflow"): {"create"},
    ("", "services", "scoring"): {"create"},
    ("", "services", "scoring-canary"): {"create", "patch", "delete"},
    ("", "configmaps", ""): {"create"},
    ("", "configmaps", "scoring-route"): {"create", "get", "patch"},
    ("", "pods", ""): {"list", "patch"},
    ("", "pods/exec", ""): set(),
    ("", "events", ""): {"create"},
    ("", "secrets", ""): set(),
    ("", "secrets", "postgres-credentials"): set(),
    ("", "serviceaccounts", ""): set(),
    ("", "serviceaccounts/token", ""): set(),
    ("batch", "jobs", ""): set(),
    ("networking.k8s.io", "ingresses", ""): set(),
    ("rbac.authorization.k8s.io", "roles", ""): set(),
    ("rbac.authorization.k8s.io", "rolebindings", ""): set(),
}


def test_the_operator_may_do_what_it_needs_and_nothing_else(stack: Stack) -> None:
    """Asked of the cluster itself about the operator's own service account, as `kubectl auth can-i --as` does."""
    with api_of(stack) as api:
        allowed = {thing: {verb for verb in VERBS if may(api, stack.namespace, verb, *thing)} for thing in NEEDED}
        assert allowed == NEEDED
        elsewhere = {(verb, *thing) for thing in NEEDED for verb in VERBS if may(
            api, stack.namespace, verb, *thing, where="default")}  # fmt: skip
        assert not elsewhere


def may(api: Api, namespace: str, verb: str, group: str, resource: str, name: str, where: str = "") -> bool:
    resource, _, subresource = resource.partition("/")
    asked = {"namespace": where or namespace, "verb": verb, "group": group, "resource": resource,
             "subresource": subresource, "name": name}  # fmt: skip
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    user = f"system:serviceaccount:{namespace}:operator"
    answer = api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": asked},
    })  # fmt: skip
    return bool(answer["status"]["allowed"])
