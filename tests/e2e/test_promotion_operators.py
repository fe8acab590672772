"""Two operators at once: one of them holds the Lease and acts, and no rollout is done twice."""

from __future__ import annotations

import pytest

from e2e import model_versions as versions
from e2e.namespace import ScenarioNamespace
from e2e.parallel import promotion_scenario
from e2e.pods import OPERATOR, PROMOTER, processes, sigcont, sigstop
from e2e.scenario import Scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/model-promotion-operator"


@pytest.mark.soak
@promotion_scenario(own_operator=True, steps=[{"weight": 30, "duration": "20s"}, {"weight": 60, "duration": "5s"}])
def test_the_second_of_two_operators_takes_over_from_a_frozen_one_which_writes_no_more(scenario: Scenario) -> None:
    namespace, promotion = scenario.namespace, scenario.promotion
    namespace.kubectl("scale", "deployment/operator", "--replicas=2")
    try:
        namespace.wait_for_rollouts("operator")
        version = scenario.roll_out(versions.good)
        promotion.wait_for_weight(30)
        holder = holder_of_the_lease(namespace)
        (pod,) = (pod for pod in namespace.pods(OPERATOR) if pod["metadata"]["name"] == holder)
        frozen = processes(pod, PROMOTER)
        sigstop(frozen)
        namespace.wait_until("the other operator has the Lease", lambda: (
            holder_of_the_lease(namespace) not in {holder, ""}))  # fmt: skip
        sigcont(frozen)
        scenario.assert_promoted(version)
        assert [ended.version for ended in promotion.history()].count(version) == 1
        for reason in ("RolloutStarted", "Promoted"):
            # Events of rollouts before this test are still there.
            told = [message for message in promotion.event_messages(reason) if f"version {version}" in message]
            assert len(told) == 1, told
        namespace.wait_until("the woken operator stands by in a new container", lambda: restarted(namespace, holder))
    finally:
        namespace.kubectl("scale", "deployment/operator", "--replicas=1")
        namespace.wait_for_rollouts("operator")


def holder_of_the_lease(namespace: ScenarioNamespace) -> str:
    """Return the name of the pod that holds the Lease, "" if none does."""
    lease = namespace.environment.api.get(LEASE.format(namespace.name))
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def restarted(namespace: ScenarioNamespace, name: str) -> bool:
    """Return whether a pod's container was started again and is ready."""
    return any(
        pod["metadata"]["name"] == name and status["restartCount"] and status["ready"]
        for pod in namespace.pods(OPERATOR)
        for status in pod["status"]["containerStatuses"]
    )
