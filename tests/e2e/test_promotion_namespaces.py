"""Namespaces deleted and releases uninstalled in mid-rollout, and namespaces with quotas and limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from charts.rendering import NAMES, SCENARIOS, containers, pod_templates, render
from e2e import model_versions as versions
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.namespace import LONGEST_WAIT_SECONDS, TARGET, ScenarioNamespace
from e2e.parallel import promotion_scenario
from e2e.pods import CANARY, OPERATOR, STABLE
from e2e.promotion import STAYS_AT_30_PERCENT
from e2e.scenario import Scenario
from localcluster.console import ClusterError, say, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# From the command to the end of the last process, or to the last object that is gone.
LONGEST_REMOVAL_SECONDS = 60.0
# The kubelet of 1.20 sometimes reports a container that ended as waiting, and removes its pod only later, presumably
# when it looks at it again anyway, once in 60 to 90 s. The namespace goes with its last pod.
LONGEST_RESYNC_SECONDS = 90.0
LIMITED = "e2e-limited"
QUOTA: Document = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "quota"},
    "spec": {"hard": {
        "requests.cpu": "4", "requests.memory": "8Gi", "limits.cpu": "20", "limits.memory": "16Gi", "pods": "20",
    }},
}  # fmt: skip
# Gives each container the CPU limit that the quota demands and the charts leave out.
LIMITS: Document = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "limits"},
    "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m"}, "max": {"memory": "2Gi"}}]},
}


def delete_namespace(scenario: Scenario) -> None:
    """Delete the namespace in mid-rollout, and follow the pointer again in a new one of the same name."""
    namespace = scenario.namespace
    scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    try:
        removal = Removal()
        namespace.environment.kubectl("default", "delete", "namespace", namespace.name, "--wait=false")
        removal.wait(namespace, "no container runs", lambda: not running(namespace))
        limit = LONGEST_REMOVAL_SECONDS + LONGEST_RESYNC_SECONDS
        removal.wait(namespace, "the namespace is gone", lambda: not existing(namespace), limit)
    finally:
        namespace.wait_until("the namespace is gone", lambda: not existing(namespace))
        namespace.create_again()
    # The operator follows the new namespace's ModelPromotion, without a restart if it is elsewhere.
    scenario.follow_pointer(steps=STAYS_AT_30_PERCENT)


@pytest.mark.soak
@promotion_scenario(own_operator=True, clients=False, steps=STAYS_AT_30_PERCENT)
def test_a_namespace_is_deleted_in_mid_rollout_with_its_operator(scenario: Scenario) -> None:
    delete_namespace(scenario)


@pytest.mark.soak
@promotion_scenario(clients=False, steps=STAYS_AT_30_PERCENT)
def test_a_namespace_is_deleted_in_mid_rollout_and_the_operator_elsewhere_goes_on(scenario: Scenario) -> None:
    operators = restart_counts(scenario.namespace)
    delete_namespace(scenario)
    assert restart_counts(scenario.namespace) == operators


@promotion_scenario(own_operator=True, clients=False, steps=STAYS_AT_30_PERCENT)
def test_service_and_operator_are_uninstalled_in_mid_rollout(scenario: Scenario) -> None:
    namespace = scenario.namespace
    scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    try:
        removal = Removal()
        namespace.environment.helm(namespace.name, "uninstall", "api", "operator")
        removal.wait(namespace, "the releases' pods are gone", lambda: not pods(namespace, STABLE, OPERATOR))
        # The ModelPromotion belongs to the user, and the canary to it: both go without an operator.
        removal = Removal()
        namespace.environment.kubectl(namespace.name, "delete", "modelpromotions", "--all")
        removal.wait(namespace, "the canary is gone", lambda: not [
            *pods(namespace, CANARY), *namespace.rollout_objects()])  # fmt: skip
    finally:
        namespace.remove_promotions()
        namespace.install_again()


@pytest.mark.soak
@promotion_scenario(clients=False, steps=STAYS_AT_30_PERCENT)
def test_a_service_is_uninstalled_in_mid_rollout_and_the_operator_elsewhere_removes_the_canary(
    scenario: Scenario,
) -> None:
    namespace = scenario.namespace
    scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    try:
        removal = Removal()
        namespace.environment.helm(namespace.name, "uninstall", "api")
        removal.wait(namespace, "no scoring pod is left", lambda: not pods(namespace, STABLE, CANARY))
        assert scenario.promotion.conditions()["Ready"] == ("False", "TargetNotFound")
    finally:
        namespace.remove_promotions()
        namespace.install_again()


@pytest.mark.soak
@promotion_scenario(following=False, clients=False)
def test_install_upgrade_and_rollout_in_a_namespace_with_quota_and_limits(scenario: Scenario) -> None:
    namespace = scenario.namespace
    namespace.kubectl("apply", "-f", "-", text=yaml.safe_dump_all([QUOTA, LIMITS]))
    try:
        namespace.reinstall()
        scenario.follow_pointer()
        with scenario.steady_clients():
            namespace.install_api("--set-string=podAnnotations.test=upgraded")
            namespace.wait_for_rollouts(TARGET)
            scenario.assert_promoted(scenario.roll_out(versions.good))
        for pod in namespace.pods(STABLE):
            assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "500m", "not by the LimitRange"
        used = namespace.environment.api.get(f"/api/v1/namespaces/{namespace.name}/resourcequotas/quota")
        assert used["status"]["used"]["limits.cpu"] != "0"
    finally:
        namespace.kubectl("delete", "resourcequota/quota", "limitrange/limits")
        # New pods, without the CPU limit.
        namespace.install_api()
        namespace.wait_for_rollouts(TARGET)


@pytest.mark.parametrize("chart", [name for name in NAMES if name != "credit-risk"])
def test_quota_and_limits_admit_the_pods_of_every_chart(chart: str, environment: Environment, limited: str) -> None:
    """Without a LimitRange, each container needs the limits that the quota counts: the CPU's by a value."""
    limits = ["--set=resources.limits.cpu=500m"]
    if chart == "api":
        # The shipper's, where decisions are logged.
        limits.append("--set=decisionLog.resources.limits.cpu=1")
    templates = [
        template
        for scenario in SCENARIOS
        if scenario.startswith(f"{chart}/")
        for template in pod_templates(render(scenario, *limits)).values()
    ]
    documents = [dry_run_pod(template) for template in templates]
    created = dry_run(environment, limited, {"apiVersion": "v1", "kind": "List", "items": documents})
    assert created.count("created (server dry run)") == len(documents)


def test_the_quota_refuses_a_pod_without_the_limit_that_it_counts(environment: Environment, limited: str) -> None:
    (template,) = pod_templates(render("postgres/ci/default-values.yaml")).values()
    with pytest.raises(ClusterError, match=r"must specify limits\.cpu"):
        dry_run(environment, limited, dry_run_pod(template))


@pytest.fixture(scope="module")
def limited(environment: Environment) -> Iterator[str]:
    """A namespace with a quota on requests and limits, and no LimitRange."""
    environment.kubectl("default", "delete", "namespace", LIMITED, "--ignore-not-found")
    environment.kubectl("default", "create", "namespace", LIMITED)
    try:
        environment.kubectl(LIMITED, "apply", "-f", "-", text=yaml.safe_dump(QUOTA))
        # Until its controller has counted, the quota refuses everything.
        path = f"/api/v1/namespaces/{LIMITED}/resourcequotas/quota"
        wait_for(
            "the quota's status",
            lambda: None if environment.api.get(path).get("status", {}).get("hard") else "it has none",
            timeout_seconds=LONGEST_WAIT_SECONDS,
        )
        yield LIMITED
    finally:
        environment.kubectl("default", "delete", "namespace", LIMITED, "--wait=false")


def dry_run(environment: Environment, namespace: str, document: Document) -> str:
    """Let the API server admit objects without creating them; return what kubectl prints."""
    options = ["--dry-run=server", "--validate=false", "-f", "-"]
    return environment.kubectl(namespace, "create", *options, text=json.dumps(document))


def dry_run_pod(template: Document) -> Document:
    """Return a pod of a template, without what only the rest of its release would provide."""
    spec = {key: value for key, value in template["spec"].items()
            if key not in {"serviceAccountName", "priorityClassName"}}  # fmt: skip
    mounted = {mount["name"] for container in containers(template) for mount in container.get("volumeMounts", [])}
    # A StatefulSet adds the volumes of its claims.
    claimed = mounted - {volume["name"] for volume in spec.get("volumes") or []}
    spec["volumes"] = [*(spec.get("volumes") or []), *({"name": name, "emptyDir": {}} for name in sorted(claimed))]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "pod-"}, "spec": spec}


class Removal:
    """Measures how long a removal takes."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def wait(
        self,
        namespace: ScenarioNamespace,
        what: str,
        reached: Callable[[], bool],
        limit: float = LONGEST_REMOVAL_SECONDS,
    ) -> None:
        """Wait until something is gone, within the limit, and print how long it took."""
        left = limit - (time.monotonic() - self._started)
        namespace.wait_until(what, reached, left, detail=lambda: str(existing(namespace)))
        say(f"{namespace.name}: {what} after {time.monotonic() - self._started:.1f} s")


def existing(namespace: ScenarioNamespace) -> Document:
    """Return the namespace, with what its deletion still waits for; {} if it does not exist."""
    return namespace.environment.api.get(f"/api/v1/namespaces/{namespace.name}")


def pods(namespace: ScenarioNamespace, *labels: str) -> list[str]:
    """Return the names of the pods with one of these labels, also those that are being deleted."""
    names = (namespace.kubectl("get", "pods", "-l", label, "-o", "name").split() for label in labels)
    return [name for found in names for name in found]


def running(namespace: ScenarioNamespace) -> list[str]:
    """Return the names of the pods with a running container, also of those that are being deleted."""
    found = namespace.environment.api.get(f"/api/v1/namespaces/{namespace.name}/pods")["items"]
    return [
        pod["metadata"]["name"]
        for pod in found
        if any("running" in status["state"] for status in pod["status"].get("containerStatuses", []))
    ]


def restart_counts(namespace: ScenarioNamespace) -> dict[str, int]:
    """Return how often the containers of the operator's pods were started again."""
    found = namespace.pods(OPERATOR, namespace.operator_namespace)
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}
