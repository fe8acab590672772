"""Rollouts for which there is no room, and autoscalers: the stable pods stay, and a rollback finds all of them.

The embedded cluster has no metrics server, so the autoscaler's controller cannot compute that fewer pods suffice. In
its place `Controller` scales the Deployment in, by the autoscaler's object alone, whenever that object allows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import yaml

from e2e import model_versions as versions
from e2e.kubernetes_api import Document
from e2e.namespace import TARGET, ScenarioNamespace
from e2e.parallel import promotion_scenario
from e2e.pods import CANARY, OPERATOR, PROMOTER, STABLE, is_ready, processes, sigkill
from e2e.promotion import STAYS_AT_30_PERCENT
from e2e.scenario import Scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
HIGH = [{"weight": 60, "duration": "10m"}]
AUTOSCALED = ("--set=autoscaling.enabled=true", "--set=autoscaling.minReplicas=1")
REPLICAS = 3
# Two stable pods run, and one of the canary's may join them.
ONE_MORE: Document = {"kind": "ResourceQuota", "spec": {"hard": {"pods": "3"}}}
NO_MORE: Document = {"kind": "ResourceQuota", "spec": {"hard": {"pods": "2"}}}
SMALL: Document = {"kind": "LimitRange", "spec": {"limits": [{"type": "Container", "max": {"memory": "100Mi"}}]}}
# No node has as many cores.
HUGE = "--set=resources.requests.cpu=1000"
# Once the reason has been seen, nobody needs to wait for the deadline.
OVERDUE = {"progressDeadlineSeconds": 5}


@dataclass
class Controller:
    """Scales a Deployment in to its autoscaler's minimum, as the real controller would if there were no load."""

    namespace: ScenarioNamespace
    fewest: int = REPLICAS
    errors: list[Exception] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Look once a second, until the event is set."""
        while not stop.wait(1):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - reported by the test that owns the thread
                self.errors.append(error)

    def _look(self) -> None:
        found = autoscaler(self.namespace)
        replicas, least = self.namespace.deployment(TARGET)["spec"]["replicas"], found["spec"]["minReplicas"]
        if replicas > least and policy(found) != "Disabled":
            self.namespace.kubectl("scale", f"deployment/{TARGET}", f"--replicas={least}")
            replicas = least
        self.fewest = min(self.fewest, replicas)


@contextmanager
def controller(namespace: ScenarioNamespace) -> Iterator[Controller]:
    """Run a controller for the duration of the block."""
    running, stop = Controller(namespace), threading.Event()
    thread = threading.Thread(target=running.run, args=(stop,), name=f"autoscaling of {namespace.name}")
    thread.start()
    try:
        yield running
    finally:
        stop.set()
        thread.join()
    assert not running.errors, running.errors


@pytest.mark.soak
@promotion_scenario(own_operator=True, following=False, clients=False)
def test_no_autoscaler_scales_the_stable_pods_in_before_a_rollback_is_over(scenario: Scenario) -> None:
    namespace, promotion = scenario.namespace, scenario.promotion
    before = autoscale(scenario)
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        promotion.wait_for_weight(60)
        # A policy that is set in the meantime is the one to restore.
        set_policy(namespace, "Min")
        namespace.wait_until("scale-in is disabled again, and the policy recorded", lambda: (
            held_policy(autoscaler(namespace)) == "Min"))  # fmt: skip

        with controller(namespace) as running:
            (pod,) = namespace.pods(OPERATOR, namespace.operator_namespace)
            sigkill(processes(pod, PROMOTER))
            namespace.install_api(*AUTOSCALED, "--set=autoscaling.maxReplicas=7")
            promotion.act("abort")
            scenario.assert_rolled_back(version, "Aborted")
            assert (running.fewest, len(ready(namespace, STABLE))) == (REPLICAS, REPLICAS)
            assert held_policy(autoscaler(namespace)) == "Min", "restored before the load was measured again"

            namespace.wait_until("the autoscaler may scale in", lambda: held_policy(autoscaler(namespace)) is None)
            namespace.wait_until("it scales in", lambda: namespace.deployment(TARGET)["spec"]["replicas"] == 1)
    after = autoscaler(namespace)
    assert after["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Min"
    assert after["spec"]["maxReplicas"] == 7
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")
    # The number of pods that was set by hand would be a conflict for Helm.
    namespace.reinstall()


@pytest.mark.soak
@promotion_scenario(own_operator=True, following=False, clients=False)
def test_an_autoscaler_is_restored_after_its_promotion_was_deleted_without_the_operator(scenario: Scenario) -> None:
    namespace, promotion = scenario.namespace, scenario.promotion
    before = autoscale(scenario)
    with scenario.steady_clients():
        scenario.roll_out(versions.good)
        promotion.wait_for_weight(60)
        assert held_policy(autoscaler(namespace)) == "none"
        namespace.kubectl("scale", "deployment/operator", "--replicas=0")
        namespace.wait_until("the operator is gone", lambda: not namespace.pods(OPERATOR))
        namespace.remove_promotions()
        assert held_policy(autoscaler(namespace)) == "none"
        namespace.kubectl("scale", "deployment/operator", "--replicas=1")
        namespace.wait_until("the autoscaler may scale in", lambda: held_policy(autoscaler(namespace)) is None)
        assert len(ready(namespace, STABLE)) == REPLICAS
    assert autoscaler(namespace)["spec"] == before["spec"]
    # The number of pods that was set by hand would be a conflict for Helm.
    namespace.reinstall()


@promotion_scenario()
@pytest.mark.parametrize(
    ("barrier", "words"),
    [
        (ONE_MORE, ["1 of 2 pods are ready", "exceeded quota: barrier"]),
        (NO_MORE, ["exceeded quota: barrier"]),
        (SMALL, ["maximum memory usage per Container is 100Mi"]),
    ],
    ids=["quota for a part", "quota for nothing", "limit range"],
)
def test_a_canary_that_is_not_admitted_is_reported_and_given_up_after_the_deadline(
    scenario: Scenario, barrier: Document, words: list[str]
) -> None:
    promotion, canary = scenario.promotion, {"replicas": 2}
    promotion.apply(canary=canary)
    with present(scenario.namespace, barrier):
        version = scenario.roll_out(versions.good)
        promotion.wait_for("the reason in the message", lambda s: (
            s["phase"] == "Starting" and all(word in s["message"] for word in words)))  # fmt: skip
        assert words[-1] in promotion.condition_message("Progressing")
        promotion.apply(canary=canary, **OVERDUE)
        scenario.assert_rolled_back(version, "ProgressDeadlineExceeded", *words)
    assert not scenario.answers_by_canary(version)


@pytest.mark.soak
@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_stable_pods_that_are_not_admitted_end_a_promotion_while_the_canary_answers(scenario: Scenario) -> None:
    promotion = scenario.promotion
    version = scenario.roll_out(versions.good)
    promotion.wait_for_weight(30)
    with present(scenario.namespace, ONE_MORE):
        promotion.act("promote")
        assert_promoting_waits(scenario, version, "exceeded quota: barrier")
        promotion.apply(steps=STAYS_AT_30_PERCENT, **OVERDUE)
        promotion.wait_for("only the rollback is reported", lambda _: (
            promotion.conditions()["Degraded"] == ("True", "PromotionDeadlineExceeded")))  # fmt: skip
        scenario.assert_rolled_back(version, "PromotionDeadlineExceeded", "exceeded quota: barrier")


@pytest.mark.soak
@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_pods_that_fit_on_no_node_end_a_promotion_and_a_rollout_and_cost_no_request(scenario: Scenario) -> None:
    namespace, promotion = scenario.namespace, scenario.promotion
    version = scenario.roll_out(versions.good)
    promotion.wait_for_weight(30)
    stable = {pod["metadata"]["uid"] for pod in ready(namespace, STABLE)}
    try:
        namespace.install_api(HUGE)
        namespace.wait_until("the canary has the new template", lambda: requested_cpu(namespace) == "1k")
        promotion.act("promote")
        assert_promoting_waits(scenario, version, "Insufficient cpu")
        promotion.apply(steps=STAYS_AT_30_PERCENT, **OVERDUE)
        assert_failed(scenario, version, "PromotionDeadlineExceeded", "Insufficient cpu")

        promotion.apply(steps=STAYS_AT_30_PERCENT)
        another = scenario.roll_out(versions.good)
        promotion.wait_for("the scheduler's reason in the message", lambda s: (
            s["phase"] == "Starting" and "Insufficient cpu" in s["message"]))  # fmt: skip
        promotion.apply(steps=STAYS_AT_30_PERCENT, **OVERDUE)
        assert_failed(scenario, another, "ProgressDeadlineExceeded", "Insufficient cpu")
        assert not scenario.answers_by_canary(another)
        assert {pod["metadata"]["uid"] for pod in ready(namespace, STABLE)} == stable
        assert promotion.conditions()["Degraded"] == ("True", "PodsCannotStart")
    finally:
        namespace.install_api()
    namespace.wait_for_rollouts(TARGET)
    promotion.wait_for("only the failed version is reported", lambda _: (
        promotion.conditions()["Degraded"] == ("True", "ProgressDeadlineExceeded")))  # fmt: skip


@pytest.mark.soak
@promotion_scenario(steps=[{"weight": 50, "duration": "1s"}])
def test_an_abort_goes_back_or_has_no_effect_but_never_both(scenario: Scenario) -> None:
    promotion = scenario.promotion
    promotion.act("abort")
    ignored = "action abort does not apply in phase {}: only a rollout in progress can be aborted, until every stable"
    (message,) = promotion.event_messages("ActionIgnored")
    assert message.startswith(ignored.format("Idle"))
    assert promotion.status()["phase"] == "Idle"

    version = scenario.roll_out(versions.good)
    promotion.wait_for_phase("Promoting")
    promotion.act("abort")
    scenario.assert_rolled_back(version, "Aborted", "manually")
    aborted = len(promotion.history())

    another = scenario.roll_out(versions.good)
    promotion.wait_for_phase("Finishing")
    promotion.act("abort")
    scenario.assert_promoted(another)
    assert len(promotion.history()) == aborted + 1
    assert promotion.event_messages("ActionIgnored")[-1].startswith(ignored.format("Finishing"))


# --- given


def autoscale(scenario: Scenario) -> Document:
    """Let the chart's autoscaler scale the stable pods, of which there are more than its minimum; return it."""
    scenario.namespace.install_api(*AUTOSCALED)
    scenario.namespace.kubectl("scale", f"deployment/{TARGET}", f"--replicas={REPLICAS}")
    scenario.namespace.wait_for_rollouts(TARGET)
    found = autoscaler(scenario.namespace)
    assert held_policy(found) is None
    # Serving the first version is a rollout, too: the autoscaler is held from here on.
    scenario.follow_pointer(steps=HIGH)
    return found


def set_policy(namespace: ScenarioNamespace, name: str) -> None:
    """Choose by which policy the autoscaler scales in, as a user does."""
    change = {"spec": {"behavior": {"scaleDown": {"selectPolicy": name}}}}
    assert any(namespace.environment.api.patch(path, change) for path in autoscaler_paths(namespace))


@contextmanager
def present(namespace: ScenarioNamespace, barrier: Document) -> Iterator[None]:
    """Have an object that keeps pods out of the namespace, for the duration of the block."""
    document = {"apiVersion": "v1", "metadata": {"name": "barrier"}, **barrier}
    namespace.kubectl("create", "-f", "-", text=yaml.safe_dump(document))
    try:
        if barrier["kind"] == "ResourceQuota":
            # The controller has counted the pods that there are; until then, the quota admits none.
            namespace.wait_until("the quota is in force", lambda: (
                namespace.kubectl("get", "quota/barrier", "-o=jsonpath={.status.used.pods}")))  # fmt: skip
        yield
    finally:
        namespace.kubectl("delete", f"{barrier['kind'].lower()}/barrier")


# --- observed


def autoscaler(namespace: ScenarioNamespace) -> Document:
    """Return the autoscaler in the newest version of the API that the cluster serves."""
    found = (namespace.environment.api.get(path) for path in autoscaler_paths(namespace))
    return next(filter(None, found))


def autoscaler_paths(namespace: ScenarioNamespace) -> list[str]:
    """Return where the autoscaler may be; version v1, which kubectl would choose on older clusters, has no behavior."""
    name = f"namespaces/{namespace.name}/horizontalpodautoscalers/{TARGET}"
    return [f"/apis/autoscaling/{version}/{name}" for version in ("v2", "v2beta2")]


def policy(found: Document) -> str:
    """Return by which policy an autoscaler scales in."""
    return str(found["spec"].get("behavior", {}).get("scaleDown", {}).get("selectPolicy", "none"))


def held_policy(found: Document) -> str | None:
    """Return the policy to restore in an autoscaler that does not scale in, None if it may."""
    recorded = found["metadata"].get("annotations", {}).get("creditrisk.io/scale-in-policy")
    return recorded if policy(found) == "Disabled" else None


def ready(namespace: ScenarioNamespace, labels: str) -> list[Document]:
    """Return the ready pods with these labels."""
    return [pod for pod in namespace.pods(labels) if is_ready(pod)]


def requested_cpu(namespace: ScenarioNamespace) -> str:
    """Return what the canary's template requests."""
    (container,) = namespace.deployment(f"{TARGET}-canary")["spec"]["template"]["spec"]["containers"]
    return str(container["resources"]["requests"]["cpu"])


def assert_promoting_waits(scenario: Scenario, version: str, words: str) -> None:
    """Assert that a promotion reports why the stable pods cannot start, and that the canary keeps its share."""
    promotion = scenario.promotion
    # The stable pods may have been unable to start before: then only the message is about the promotion.
    promotion.wait_for("the reason is reported", lambda s: (
        s["phase"] == "Promoting" and words in s["message"] and words in promotion.condition_message("Degraded")
    ))  # fmt: skip
    assert promotion.conditions()["Degraded"] == ("True", "PodsCannotStart")
    assert promotion.status()["weight"] == 30
    scenario.namespace.wait_until("the canary answers", lambda: any(
        answer.by_canary and answer.version == version for answer in scenario.clients.since(time.time() - 2)
    ))  # fmt: skip


def assert_failed(scenario: Scenario, version: str, reason: str, words: str) -> None:
    """Assert that a rollout was rolled back though the stable pods' template still cannot start."""
    status = scenario.promotion.wait_for(f"version {version} is rolled back", lambda s: (
        s.get("phase") == "Failed" and s["history"][0]["version"] == version))  # fmt: skip
    entry = next(entry for entry in status["failedVersions"] if entry["version"] == version)
    assert entry["reason"] == reason
    assert words in entry["message"]
    assert status["stableVersion"] == scenario.namespace.served() == scenario.stable
    assert scenario.promotion.conditions()["Ready"] == ("True", "Serving")
    assert not scenario.namespace.pods(CANARY)
