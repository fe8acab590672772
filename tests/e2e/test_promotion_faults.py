"""Faults around a rollout: killed operators and pods, deletions, upgrades. No client notices any of them."""

from __future__ import annotations

import time

import pytest

from e2e import model_versions as versions
from e2e.kubernetes_api import Document, KubernetesApi, kubernetes_api
from e2e.parallel import promotion_scenario
from e2e.pods import CANARY, OPERATOR, PROMOTER, SCORER, STABLE, is_ready, processes, sigkill, sigstop
from e2e.promotion import ANALYSIS, STAYS_AT_30_PERCENT
from e2e.scenario import Scenario
from localcluster.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def kill_operator(scenario: Scenario, phase: str, mode: str = "live") -> None:
    """Kill the operator in a phase, without a graceful shutdown, so that a new pod takes over at once.

    The operator need not be ready when it is killed: a phase may end before an operator that just started is probed.
    """
    namespace = scenario.namespace

    def in_phase(status: Document) -> bool:
        return status.get("phase") == phase and status["route"].get("mode", "live") == mode

    def running() -> list[tuple[Document, list[int]]]:
        pods = namespace.pods(OPERATOR, namespace.operator_namespace)
        return [(pod, found) for pod in pods if (found := processes(pod, PROMOTER))]

    scenario.promotion.wait_for(f"an operator in {phase} ({mode})", lambda s: in_phase(s) and running())
    ((pod, pids),) = running()
    # A container that is killed repeatedly waits longer before each restart; a new pod does not. The pod is deleted
    # before its process dies, because a restarted container would go on to the next phase. The process is frozen
    # meanwhile, so that it does not see the deletion.
    sigstop(pids)
    path = f"/api/v1/namespaces/{namespace.operator_namespace}/pods/{pod['metadata']['name']}"
    namespace.environment.api.delete(path, gracePeriodSeconds=1)
    sigkill(pids)
    assert in_phase(scenario.promotion.status()), f"the operator left {phase} before it was killed"


@pytest.mark.soak
@promotion_scenario(
    own_operator=True,
    shadow={"duration": "8s"},
    steps=[{"weight": 30, "duration": "8s"}, {"pause": {}}, {"weight": 60, "duration": "5s"}],
)
def test_a_rollout_whose_operator_is_killed_in_every_phase_ends_in_promotion(scenario: Scenario) -> None:
    kill_operator(scenario, "Idle")
    version = scenario.roll_out(versions.good)
    kill_operator(scenario, "Starting")
    kill_operator(scenario, "Progressing", "shadow")
    kill_operator(scenario, "Progressing")
    kill_operator(scenario, "Paused")
    scenario.promotion.act("resume")
    kill_operator(scenario, "Promoting")
    kill_operator(scenario, "Finishing")
    scenario.assert_promoted(version)


@pytest.mark.soak
@promotion_scenario(own_operator=True, steps=STAYS_AT_30_PERCENT)
def test_a_rollback_and_a_stop_whose_operator_is_killed_are_completed(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    scenario.promotion.annotate("abort")
    kill_operator(scenario, "RollingBack")
    scenario.assert_rolled_back(version, "Aborted")
    kill_operator(scenario, "Failed")

    another = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    scenario.namespace.move_pointer(scenario.stable)
    kill_operator(scenario, "Stopping")
    scenario.promotion.wait_for_phase("Idle")
    scenario.assert_stopped(another, "PointerMovedBack")


@promotion_scenario(own_operator=True, steps=STAYS_AT_30_PERCENT)
def test_deletion_in_mid_rollout_leaves_only_the_champion_though_the_operator_is_gone(scenario: Scenario) -> None:
    namespace = scenario.namespace
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    namespace.kubectl("scale", "deployment/operator", "--replicas=0")
    namespace.wait_until("the operator is gone", lambda: not namespace.pods(OPERATOR))
    deleted = time.time()
    namespace.remove_promotions()
    namespace.wait_until("only the champion answers", lambda: scenario.recent_versions(3) == {scenario.stable})
    namespace.kubectl("scale", "deployment/operator", "--replicas=1")
    assert namespace.served() == scenario.stable
    scenario.assert_nobody_was_sent_back(version, until=deleted)


@promotion_scenario(steps=[{"weight": 30, "duration": "15s"}, {"weight": 60, "duration": "5s"}])
@pytest.mark.parametrize("how", [pytest.param("deleted", marks=pytest.mark.soak), "SIGKILL"])
def test_a_killed_stable_pod_costs_no_request_and_does_not_end_the_rollout(scenario: Scenario, how: str) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    pod = next(filter(is_ready, scenario.namespace.pods(STABLE)))
    if how == "SIGKILL":
        sigkill(processes(pod, SCORER))
    else:
        scenario.namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
    scenario.assert_promoted(version)


# A kubelet reports a death only seconds later; what the canary did not answer meanwhile must not end the rollout.
@promotion_scenario(
    steps=[{"weight": 30, "duration": "8s"}], analysis={**ANALYSIS, "interval": "10s", "failureLimit": 3}
)
def test_a_killed_canary_pod_restarts_the_rollout(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    (pod,) = scenario.namespace.pods(CANARY)
    killed = time.time()
    sigkill(processes(pod, SCORER))
    status = scenario.promotion.wait_for("a promoted version", lambda s: s.get("stableVersion") == version)
    assert "CanaryLost" in scenario.promotion.events(), status
    scenario.assert_nobody_was_sent_back(version, until=killed)
    scenario.promotion.wait_for_phase("Idle")


@promotion_scenario(following=False, clients=False)
@pytest.mark.parametrize("program", ["helm", pytest.param("helm-3", marks=pytest.mark.soak)])
def test_helm_upgrade_and_rollback_in_mid_rollout_keep_the_version_and_update_the_canary(
    scenario: Scenario, program: str
) -> None:
    namespace = scenario.namespace
    namespace.reinstall(program)
    scenario.follow_pointer(steps=STAYS_AT_30_PERCENT)
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        scenario.promotion.wait_for_weight(30)

        namespace.install_api("--set-string=podAnnotations.test=upgraded", program=program)
        namespace.wait_until("the canary has the new template", lambda: namespace.annotation("scoring-canary", "test"))
        namespace.wait_for_rollouts("scoring", "scoring-canary")
        assert namespace.served() == scenario.stable

        namespace.environment.helm(namespace.name, "rollback", "api", program=program)
        namespace.wait_until("the old canary template", lambda: not namespace.annotation("scoring-canary", "test"))
        namespace.wait_until("the version's annotation", lambda: namespace.served() == scenario.stable)
        namespace.wait_for_rollouts("scoring", "scoring-canary")
        scenario.assert_nobody_was_sent_back(version)
        assert scenario.promotion.status()["phase"] == "Progressing"

        scenario.promotion.act("promote")
        scenario.promotion.wait_for_phase("Promoting")
        namespace.install_api("--set-string=podAnnotations.test=again", program=program)
        scenario.assert_promoted(version)
        namespace.wait_for_rollouts("scoring")
        assert (namespace.annotation("scoring", "test"), namespace.served()) == ("again", version)


@promotion_scenario(namespaces=2, steps=[{"weight": 30, "duration": "30s"}])
def test_two_models_roll_out_at_once_and_are_judged_by_their_own_answers(good: Scenario, bad: Scenario) -> None:
    bad.promotion.apply(steps=STAYS_AT_30_PERCENT)
    better, worse = good.roll_out(versions.good), bad.roll_out(versions.shifted)
    good.promotion.wait_for("both rollouts in progress", lambda s: (
        s["phase"] == "Progressing" and bad.promotion.status()["phase"] in {"Starting", "Progressing"}))  # fmt: skip
    bad.assert_rolled_back(worse, "AnalysisFailed", "decision shift")
    good.assert_promoted(better)
    assert not {answer.pod for answer in good.clients.answers} & {answer.pod for answer in bad.clients.answers}


VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# The verbs that the operator may use, by API group, resource and name ("" for any).
ALLOWED: dict[tuple[str, str, str], set[str]] = {
    ("creditrisk.io", "modelpromotions", ""): {"list", "watch", "patch"},
    ("creditrisk.io", "modelpromotions/status", ""): {"patch"},
    ("apps", "deployments", ""): {"create"},
    ("apps", "deployments", "scoring"): {"create", "get", "patch"},
    ("apps", "deployments", "scoring-canary"): {"create", "get", "patch", "delete"},
    ("apps", "deployments", "mlflow"): {"create"},
    ("", "services", "scoring"): {"create"},
    ("", "services", "scoring-canary"): {"create", "patch", "delete"},
    ("", "configmaps", ""): {"create", "list", "delete"},
    ("", "configmaps", "scoring-route"): {"create", "get", "patch", "list", "delete"},
    ("", "pods", ""): {"list", "patch"},
    ("", "pods/exec", ""): set(),
    ("", "events", ""): {"create"},
    ("", "secrets", ""): set(),
    ("", "secrets", "postgres-credentials"): set(),
    ("", "serviceaccounts", ""): set(),
    ("", "serviceaccounts/token", ""): set(),
    ("coordination.k8s.io", "leases", ""): {"create"},
    ("coordination.k8s.io", "leases", "model-promotion-operator"): {"create", "get", "update"},
    ("autoscaling", "horizontalpodautoscalers", ""): {"list", "patch"},
    ("batch", "jobs", ""): set(),
    ("networking.k8s.io", "ingresses", ""): set(),
    ("rbac.authorization.k8s.io", "roles", ""): set(),
    ("rbac.authorization.k8s.io", "rolebindings", ""): set(),
}


def test_the_operator_has_exactly_the_permissions_it_needs(stack: Stack) -> None:
    """The cluster itself answers for the operator's own service account, as `kubectl auth can-i --as` would ask it."""
    with kubernetes_api(stack) as api:
        allowed = {thing: {verb for verb in VERBS if may(api, stack.namespace, verb, *thing)} for thing in ALLOWED}
        assert allowed == ALLOWED
        elsewhere = {
            (verb, *thing)
            for thing in ALLOWED
            for verb in VERBS
            if may(api, stack.namespace, verb, *thing, where="default")
        }
        assert not elsewhere


def may(api: KubernetesApi, namespace: str, verb: str, group: str, resource: str, name: str, where: str = "") -> bool:
    """Return whether the operator of a namespace may use a verb there, or in another namespace."""
    resource, _, subresource = resource.partition("/")
    attributes = {"namespace": where or namespace, "verb": verb, "group": group, "resource": resource,
                  "subresource": subresource, "name": name}  # fmt: skip
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    user = f"system:serviceaccount:{namespace}:operator"
    answer = api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    })  # fmt: skip
    return bool(answer["status"]["allowed"])
