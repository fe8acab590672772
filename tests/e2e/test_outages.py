"""Serving without MLflow, Postgres and the object store, and after the served version was deleted from them.

The outages are those of the shared stack, so no scenario may run beside this module: it has a namespace and an operator
of its own, and pytest runs it before the scenarios in parallel begin. Its tests build on one another, in their order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from mlflow import MlflowClient

from e2e import model_versions as versions
from e2e.backends import Backends
from e2e.clients import Clients, failed
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.measurements import report
from e2e.namespace import TARGET
from e2e.pods import CANARY, OPERATOR, PROMOTER, STABLE, is_ready, processes, sigkill
from e2e.promotion import ANALYSIS, STAYS_AT_30_PERCENT, STEPS
from e2e.scenario import Scenario, lone_scenario, mounted_copy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMESPACE = "outages"
# From the start of its container to a pod that is ready, without the registry. It is 5 s for seven pods on two idle
# cores, and grows with what else runs there; a pod that needs the registry is never ready.
LONGEST_START_SECONDS = 30.0
REPLICAS, SCALED_UP = 2, 6
# Memory of a scoring pod in Mi: six of them and a canary then fit on a small node, beside the rest of the stack.
REQUEST = 96
# The canary's only pod is deleted twice, each of which counts as a failure.
PATIENT: Document = {**ANALYSIS, "failureLimit": 5}
# The operator polls an unavailable registry at least this often.
POLL = "--set-string=extraEnv[0].name=PROMOTER_POLL_MAX_SECONDS,extraEnv[0].value=3"


@pytest.fixture(scope="module")
def scenario(environment: Environment, backends: Backends) -> Iterator[Scenario]:
    """A served champion and a ModelPromotion at rest, in a namespace with an operator of its own."""
    api = (f"--set=replicas={REPLICAS}", f"--set=resources.requests.memory={REQUEST}Mi")
    with lone_scenario(environment, NAMESPACE, api_values=api, operator_values=(POLL,)) as found:
        found.follow_pointer(steps=STAYS_AT_30_PERCENT, analysis=PATIENT)
        yield found


def test_files_that_do_not_match_their_digest_are_neither_copied_nor_served(scenario: Scenario) -> None:
    with scenario.steady_clients():
        version = scenario.roll_out(versions.corrupt)
        scenario.assert_rolled_back(version, "CanaryFailed", "SHA-256")
    message = scenario.promotion.events()["ArtifactsNotKept"]
    assert message.startswith(
        f"the files of version {version} could not be kept in the cluster: model.onnx has SHA-256"
    )
    assert message.endswith(f"its tag says {'0' * 64}")
    assert version not in kept_versions(scenario)


def test_an_outage_in_mid_rollout_costs_no_request_and_promotes_nothing_unjudged(
    scenario: Scenario, backends: Backends, record_testsuite_property: Any
) -> None:
    namespace, promotion = scenario.namespace, scenario.promotion
    require_room(scenario, pods=SCALED_UP + 1 - REPLICAS)
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        promotion.wait_for_weight(30)
        backends.stop()

        scaled = time.monotonic()
        namespace.kubectl("scale", f"deployment/{TARGET}", f"--replicas={SCALED_UP}")
        namespace.wait_until("six ready pods", lambda: len(ready_pods(scenario)) == SCALED_UP, 60)
        report(record_testsuite_property, "scaling from 2 to 6 pods during the outage, s", time.monotonic() - scaled)
        starts = start_seconds(ready_pods(scenario))
        report(record_testsuite_property, "slowest start of a container during the outage, s", max(starts))
        assert max(starts) <= LONGEST_START_SECONDS

        kill_operator(scenario)
        six = f"version {scenario.stable} is served by {SCALED_UP} of {SCALED_UP} pods"
        promotion.wait_for("the new operator reports six pods", lambda _: promotion.condition_message("Ready") == six)
        promotion.wait_for_weight(30)

        # The canary's pod too starts from its copy, and the rollout starts over rather than going on unjudged.
        for pod in namespace.pods(CANARY):
            namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")
        namespace.wait_until("a new canary pod is ready", lambda: any(map(is_ready, namespace.pods(CANARY))), 60)
        promotion.wait_for_weight(30)

        promotion.wait_for("the outage is reported", lambda _: (
            promotion.conditions()["Degraded"] == ("True", "RegistryUnreachable")), 120)  # fmt: skip
        took = time.time() - backends.stopped_at
        report(record_testsuite_property, "until Degraded reported the outage, s", took)
        conditions = promotion.conditions()
        assert conditions["Ready"] == ("True", "Serving")
        assert conditions["RegistryReachable"] == ("False", "Unreachable")
        status = promotion.status()
        assert (status["stableVersion"], status["canaryVersion"]) == (scenario.stable, version)
        assert namespace.served() == scenario.stable


def test_pods_that_are_deleted_all_at_once_come_back_during_an_outage(
    scenario: Scenario, record_testsuite_property: Any
) -> None:
    with scenario.recorded_clients() as clients:
        clients.wait_for_answers()
        delete_every_pod(scenario, clients, record_testsuite_property)


def test_after_the_outage_the_rollout_is_judged_and_ends(scenario: Scenario, backends: Backends) -> None:
    promotion = scenario.promotion
    version = str(promotion.status()["canaryVersion"])
    with scenario.steady_clients():
        backends.start()
        promotion.wait_for("the registry is back", lambda _: (
            promotion.conditions()["RegistryReachable"][0] == "True"))  # fmt: skip
        scenario.namespace.kubectl("scale", f"deployment/{TARGET}", f"--replicas={REPLICAS}")
        assert promotion.status()["stableVersion"] == scenario.stable
        promotion.apply(steps=STEPS, analysis=PATIENT)
        scenario.assert_promoted(version)
    assert set(kept_versions(scenario)) == {version, *promotion.status()["stableHistory"][:1]}


def test_pods_start_without_alias_version_and_artifacts_in_the_registry(
    scenario: Scenario, record_testsuite_property: Any
) -> None:
    namespace, promotion, version = scenario.namespace, scenario.promotion, scenario.stable
    registry: MlflowClient = namespace.environment.registry
    before = mounted_copy(namespace.deployment(TARGET))

    registry.delete_registered_model_alias(namespace.model, "production")
    promotion.wait_for("the deleted alias is reported", lambda s: "with alias production" in s["message"])
    assert promotion.conditions()["Ready"] == ("True", "Serving")

    namespace.environment.publisher.delete_artifacts(registry.get_model_version(namespace.model, version))
    registry.delete_model_version(namespace.model, version)
    promotion.wait_for("the missing version is reported", lambda _: (
        promotion.conditions()["Degraded"] == ("True", "StableVersionMissing")))  # fmt: skip
    with scenario.recorded_clients() as clients:
        clients.wait_for_answers()
        delete_every_pod(scenario, clients, record_testsuite_property)
        assert scenario.recent_versions(2) == {version}
    assert mounted_copy(namespace.deployment(TARGET)) == before
    promotion.wait_for("only the missing version is reported", lambda _: (
        promotion.conditions()["Degraded"] == ("True", "StableVersionMissing")))  # fmt: skip


def delete_every_pod(scenario: Scenario, clients: Clients, record: Any) -> None:
    """Delete every scoring pod at once; requests fail at most until the first new pod is ready."""
    namespace = scenario.namespace
    old = {pod["metadata"]["uid"] for pod in namespace.pods(STABLE)}
    deleted = time.time()
    names = [pod["metadata"]["name"] for pod in [*namespace.pods(STABLE), *namespace.pods(CANARY)]]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: namespace.kubectl("delete", "pod", name, "--wait=false"), names))

    def new_pods() -> list[Document]:
        return [pod for pod in ready_pods(scenario) if pod["metadata"]["uid"] not in old]

    namespace.wait_until("a new pod is ready", new_pods, 60)
    first = time.time()
    namespace.wait_until("all pods are ready", lambda: len(new_pods()) == len(old), 90)
    starts = start_seconds(new_pods())
    report(record, f"slowest start of {len(starts)} containers that started at once, s", max(starts))
    report(record, "from the deletion of every pod to the first one ready, s", first - deleted)
    assert max(starts) <= LONGEST_START_SECONDS
    # The ingress notices a pod that became ready a moment after the API does.
    served = first + 3
    time.sleep(max(0.0, served + 3 - time.time()))
    bad = [answer for answer in failed(clients.answers) if not deleted <= answer.done <= served + 1]
    assert not bad, f"{len(bad)} requests failed while pods were ready, the first: {bad[:3]}"
    assert [answer for answer in clients.since(served) if answer.status == 200]


def ready_pods(scenario: Scenario) -> list[Document]:
    """Return the stable pods that are ready."""
    return list(filter(is_ready, scenario.namespace.pods(STABLE)))


def start_seconds(pods: list[Document]) -> list[float]:
    """Return the seconds from the start of each ready pod's container until it was ready; both are whole seconds."""
    return [
        timestamp(next(c["lastTransitionTime"] for c in pod["status"]["conditions"] if c["type"] == "Ready"))
        - timestamp(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])
        for pod in pods
    ]


def timestamp(text: str) -> float:
    """Return a time of the API as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def kept_versions(scenario: Scenario) -> list[str]:
    """Return the versions whose files the status and the cluster have."""
    status = scenario.promotion.status()
    listed = scenario.namespace.kubectl("get", "configmaps", "-l", "creditrisk.io/artifacts-of", "-o", "name").split()
    names = {name.rpartition("/")[2] for name in listed}
    return [copy["version"] for copy in status["artifacts"] if set(copy["configMaps"]) <= names]


def kill_operator(scenario: Scenario) -> None:
    """Kill the operator's process, and wait until its container was started again."""
    namespace = scenario.namespace
    (pod,) = namespace.pods(OPERATOR)
    sigkill(processes(pod, PROMOTER))
    namespace.wait_until("the operator is back", lambda: any(map(restarted, namespace.pods(OPERATOR))))


def restarted(pod: Document) -> bool:
    """Return whether a pod is ready again after its container was restarted."""
    return is_ready(pod) and any(status["restartCount"] for status in pod["status"]["containerStatuses"])


def require_room(scenario: Scenario, pods: int) -> None:
    """Fail early, and with numbers, if the node cannot take that many more scoring pods."""
    api = scenario.namespace.environment.api
    (node, *_) = api.get("/api/v1/nodes")["items"]
    running = [pod for pod in api.get("/api/v1/pods")["items"] if pod["status"]["phase"] in {"Running", "Pending"}]
    requests = [
        container.get("resources", {}).get("requests", {}) for pod in running for container in pod["spec"]["containers"]
    ]
    allocatable = node["status"]["allocatable"]
    memory = mebibytes(allocatable["memory"]) - sum(mebibytes(found.get("memory", "0")) for found in requests)
    cpu = millicores(allocatable["cpu"]) - sum(millicores(found.get("cpu", "0")) for found in requests)
    assert memory >= pods * REQUEST, f"{pods} more pods need {pods * REQUEST} Mi, the node has {memory:.0f} Mi left"
    assert cpu >= pods * 20, f"{pods} more pods need {pods * 20} m, the node has {cpu:.0f} m left"


def mebibytes(quantity: str) -> float:
    """Return a quantity of memory in Mi."""
    units = {"Ki": 1 / 1024, "Mi": 1.0, "Gi": 1024.0}
    unit = quantity[-2:]
    return float(quantity[:-2]) * units[unit] if unit in units else float(quantity) / (1 << 20)


def millicores(quantity: str) -> float:
    """Return a quantity of CPU in thousandths of a core."""
    return float(quantity[:-1]) if quantity.endswith("m") else float(quantity) * 1000
