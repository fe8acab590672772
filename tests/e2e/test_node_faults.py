"""A node whose processes die, and an API server that does not answer: the faults below Kubernetes.

They reach every namespace of the cluster, so no scenario may run beside this module: it has a namespace and an operator
of its own, and pytest runs it before the scenarios in parallel begin.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from e2e import model_versions as versions
from e2e.backends import Backends
from e2e.clients import Answer, Clients, failed
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.measurements import report
from e2e.namespace import TARGET
from e2e.node import Node
from e2e.pods import OPERATOR, STABLE, is_ready
from e2e.promotion import STAYS_AT_30_PERCENT, STEPS
from e2e.scenario import Scenario, lone_scenario
from localcluster.cluster import Cluster
from localcluster.console import say
from localcluster.embedded.cluster import EmbeddedCluster

# Minutes, of which most is waiting for the node.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]

NAMESPACE = "node-faults"
SHORT_OUTAGE_SECONDS = 40.0
LONGEST_WITHOUT_READY_POD_SECONDS = 10.0
LONG_OUTAGE_SECONDS = 60 * float(os.environ.get("CREDIT_RISK_API_OUTAGE_MINUTES", "10"))


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> Node:
    """The node's processes."""
    if not isinstance(cluster, EmbeddedCluster):
        pytest.skip("the node of this cluster is a container, whose processes another program supervises")
    return Node(cluster)


@pytest.fixture(scope="module")
def scenario(environment: Environment, node: Node) -> Iterator[Scenario]:
    """A served champion and a ModelPromotion at rest, in a namespace with an operator of its own."""
    with lone_scenario(environment, NAMESPACE) as found:
        found.follow_pointer(steps=STAYS_AT_30_PERCENT)
        yield found


def test_a_restarted_kubelet_and_containerd_stop_no_container_though_the_registry_is_down(
    scenario: Scenario, backends: Backends, node: Node, record_testsuite_property: Any
) -> None:
    namespace = scenario.namespace
    before = containers(namespace.pods(STABLE))
    with registry_down(backends), scenario.recorded_clients() as clients:
        wait_for_answers(clients)
        killed = time.time()
        node.restart("kubelet", "containerd")
        namespace.kubectl("scale", f"deployment/{TARGET}", f"--replicas={len(before) + 1}")
        namespace.wait_until("a new pod is ready", lambda: (
            len(list(filter(is_ready, namespace.pods(STABLE)))) == len(before) + 1))  # fmt: skip
        report(record_testsuite_property, "from the death of kubelet and containerd to a new ready pod, s",
               time.time() - killed)  # fmt: skip
        after = containers(namespace.pods(STABLE))
        assert before.items() <= after.items(), "a container was restarted"
    refused = failed(clients.answers)
    say(f"requests that the ingress refused because no pod counted as ready: {len(refused)} of {len(clients.answers)}")
    assert_refused_by_ingress_for_a_moment(refused)


def test_an_api_server_out_of_reach_in_mid_rollout_costs_no_request_and_promotes_nothing_unjudged(
    scenario: Scenario, node: Node, record_testsuite_property: Any
) -> None:
    survive_without_api_server(scenario, node, SHORT_OUTAGE_SECONDS, record_testsuite_property)


def test_an_api_server_out_of_reach_for_minutes_costs_no_request_and_promotes_nothing_unjudged(
    scenario: Scenario, node: Node, record_testsuite_property: Any
) -> None:
    survive_without_api_server(scenario, node, LONG_OUTAGE_SECONDS, record_testsuite_property)


@contextmanager
def registry_down(backends: Backends) -> Iterator[None]:
    """Have no registry for the duration of the block."""
    backends.stop()
    try:
        yield
    finally:
        backends.start()


def assert_refused_by_ingress_for_a_moment(refused: Sequence[Answer]) -> None:
    """Assert that failed requests were refused at once by the ingress, within a few seconds.

    A kubelet that starts again reports each pod as not ready until it has probed it (kubernetes/kubernetes#100277). On
    the only node this leaves the ingress without a pod, though all of them answer.
    """
    assert all(answer.status in {404, 503} for answer in refused), refused[:3]
    sent = sorted(answer.sent for answer in refused) or [0.0]
    assert sent[-1] - sent[0] < LONGEST_WITHOUT_READY_POD_SECONDS


def survive_without_api_server(scenario: Scenario, node: Node, seconds: float, record: Any) -> None:
    """Take the API server away in the first step, for longer than all steps last."""
    namespace, promotion = scenario.namespace, scenario.promotion
    promotion.apply(steps=STEPS)
    restarts = restart_counts(namespace.pods(OPERATOR))
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        promotion.wait_for_weight(STEPS[0]["weight"])
        with node.without_api_server():
            time.sleep(seconds)
        back = time.time()
        status = promotion.status()
        assert status["stableVersion"] == scenario.stable, "promoted before the steps were judged"
        assert status["route"]["weight"] == STEPS[0]["weight"]
        scenario.assert_promoted(version)
        report(record, f"from the API server's return after {seconds:.0f} s to the promotion, s", time.time() - back)
    assert restart_counts(namespace.pods(OPERATOR)) == restarts


def wait_for_answers(clients: Clients, at_least: int = 20) -> None:
    """Wait until some requests have been answered."""
    deadline = time.monotonic() + 60
    while len(clients.answers) < at_least:
        assert time.monotonic() < deadline, "the clients got no answers"
        time.sleep(0.1)


def containers(pods: list[Document]) -> dict[str, str]:
    """Return the containers of pods, and by their ids whether one was replaced."""
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"] for pod in pods}


def restart_counts(pods: list[Document]) -> dict[str, int]:
    """Return how often the container of each pod was started again."""
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}
