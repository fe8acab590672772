"""What goes wrong around a rollout: killed operators and pods, deletions, upgrades. Clients notice none of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from e2e import bad_models as versions
from e2e.beside import on_a_lane, on_a_lane_of_its_own, on_two_lanes
from e2e.kube import Api, Document, api_of
from e2e.lanes import ANALYSIS, Lane
from e2e.pods import OPERATOR, PROMOTER, SCORER, is_ready, processes, sigkill, sigstop
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LONG: list[dict[str, Any]] = [{"weight": 30, "duration": "10m"}]


def kill_operator(lane: Lane, phase: str, mode: str = "live") -> None:
    """Kill the operator in a phase, without a word of warning, and have another one started at once.

    It is caught there ready or not: a phase may be over before the operator that just started is probed.
    """

    def there(status: Document) -> bool:
        return status.get("phase") == phase and status["route"].get("mode", "live") == mode

    def running() -> list[tuple[Document, list[int]]]:
        pods = lane.pods(OPERATOR, lane.operator_namespace)
        return [(pod, found) for pod in pods if (found := processes(pod, PROMOTER))]

    lane.wait_for(f"an operator in {phase} ({mode})", lambda s: there(s) and running())
    ((pod, victims),) = running()
    # A container that is killed again and again waits longer each time before it starts; a new pod does not. The pod is
    # deleted before the operator dies, lest it is started in its old place and goes on to the next phase there, and the
    # operator is frozen meanwhile, so that it does not hear of the deletion.
    sigstop(victims)
    lane.site.api.delete(f"/api/v1/namespaces/{lane.operator_namespace}/pods/{pod['metadata']['name']}",
                         gracePeriodSeconds=1)  # fmt: skip
    sigkill(victims)
    assert there(lane.status()), f"the operator left {phase} before it was killed"


@on_a_lane_of_its_own
def test_an_operator_killed_in_each_phase_of_a_promotion_brings_it_to_its_end(lane: Lane) -> None:
    lane.follow(
        shadow={"duration": "8s"},
        steps=[{"weight": 30, "duration": "8s"}, {"pause": {}}, {"weight": 60, "duration": "5s"}],
    )
    with lane.clients():
        kill_operator(lane, "Idle")
        version = lane.roll_out(versions.good)
        kill_operator(lane, "Starting")
        kill_operator(lane, "Progressing", "shadow")
        kill_operator(lane, "Progressing")
        kill_operator(lane, "Paused")
        lane.act("resume")
        kill_operator(lane, "Promoting")
        kill_operator(lane, "Finishing")
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
        kill_operator(lane, "Failed")
        another = lane.roll_out(versions.good)
        lane.wait_for("the next canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.point_to(lane.stable)
        kill_operator(lane, "Stopping")
        found = lane.wait_for("rest", lambda s: s["phase"] == "Idle")
        assert (found["history"][0]["version"], found["history"][0]["outcome"]) == (another, "Stopped")
        assert lane.served() == lane.stable
        lane.assert_nobody_turned_back(another, until=found["history"][0]["at"])


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
        lane.wait_until("only the champion answers", lambda: (
            {answer.version for answer in lane.load.since(time.time() - 3)} == {lane.stable}))  # fmt: skip
        lane.site.kubectl(lane.namespace, "scale", "deployment/operator", "--replicas=1")
    assert lane.served() == lane.stable
    lane.assert_nobody_turned_back(version, until=deleted)


@on_a_lane
@pytest.mark.parametrize("how", ["deleted", "SIGKILL"])
def test_a_killed_stable_pod_costs_no_request_and_does_not_end_the_rollout(lane: Lane, how: str) -> None:
    lane.follow(steps=[{"weight": 30, "duration": "15s"}, {"weight": 60, "duration": "5s"}])
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        pod = next(filter(is_ready, lane.pods("creditrisk.io/track=stable")))
        if how == "SIGKILL":
            sigkill(processes(pod, SCORER))
        else:
            lane.site.kubectl(lane.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false")
        lane.assert_promoted(version)


@on_a_lane
def test_a_killed_canary_pod_starts_the_rollout_over(lane: Lane) -> None:
    # Kubelets take seconds to tell of a death; what the canary did not answer meanwhile is not to end the rollout.
    analysis = ANALYSIS | {"interval": "10s", "failureLimit": 3}
    lane.follow(steps=[{"weight": 30, "duration": "8s"}], analysis=analysis)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        (pod,) = lane.pods("creditrisk.io/track=canary")
        killed = time.time()
        sigkill(processes(pod, SCORER))
        found = lane.wait_for("version promoted", lambda s: s.get("stableVersion") == version)
        assert "CanaryLost" in lane.events(), found
        lane.assert_nobody_turned_back(version, until=killed)
        lane.wait_for("rest", lambda s: s["phase"] == "Idle")
    lane.stable = version


@on_a_lane
@pytest.mark.parametrize("program", ["helm", "helm-3"])
def test_an_upgrade_and_a_rollback_in_mid_rollout_keep_the_version_and_rebuild_the_canary(
    lane: Lane, program: str
) -> None:
    lane.reinstall(program)
    lane.follow(steps=LONG)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.helm_api("--set-string=podAnnotations.test=upgraded", program=program)
        lane.wait_until("the canary has the new template", lambda: lane.annotation("scoring-canary", "test"))
        lane.wait_for_rollouts("scoring", "scoring-canary")
        assert lane.served() == lane.stable
        lane.helm("rollback", "api", program=program)
        lane.wait_until("the canary has the old template", lambda: not lane.annotation("scoring-canary", "test"))
        lane.wait_until("the version is told", lambda: lane.served() == lane.stable)
        lane.wait_for_rollouts("scoring", "scoring-canary")
        lane.assert_nobody_turned_back(version)
        assert lane.status()["phase"] == "Progressing"
        lane.act("promote")
        lane.wait_for("the stable pods roll", lambda s: s["phase"] == "Promoting")
        lane.helm_api("--set-string=podAnnotations.test=again", program=program)
        lane.assert_promoted(version)
        lane.wait_for_rollouts("scoring")
        assert (lane.annotation("scoring", "test"), lane.served()) == ("again", version)


@on_two_lanes
def test_two_models_roll_out_at_once_each_by_its_own_answers(good: Lane, bad: Lane) -> None:
    good.follow(steps=[{"weight": 30, "duration": "30s"}])
    bad.follow(steps=[{"weight": 30, "duration": "10m"}])
    with good.clients(), bad.clients():
        better, worse = good.roll_out(versions.good), bad.roll_out(versions.shifted)
        good.wait_for("both are on their way", lambda s: (
            s["phase"] == "Progressing" and bad.status()["phase"] in {"Starting", "Progressing"}))  # fmt: skip
        bad.assert_rolled_back(worse, "AnalysisFailed", "decision shift")
        good.assert_promoted(better)
    assert not {answer.pod for answer in good.load.answers} & {answer.pod for answer in bad.load.answers}


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
        elsewhere = {
            (verb, *thing)
            for thing in NEEDED
            for verb in VERBS
            if may(api, stack.namespace, verb, *thing, where="default")
        }
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
