"""Approvals on a real API server: in one's own name alone, by members of the group, and never by the trainer alone.

The people are impersonated, which gives the API server the same user and groups as a login would. Where namespaces
cannot be told apart (before Kubernetes 1.21), every approval in the cluster would ask this module's webhook, so nothing
runs beside it: it has a namespace and an operator of its own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e import model_versions as versions
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.scenario import Scenario, lone_scenario
from e2e.test_kubectl_promotion import plugin
from localcluster.paths import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAMESPACE = "approvals"
OFFICERS, INTERNS = "credit-risk-officers", "interns"
ALICE, BOB, CAROL = (("--as", name, "--as-group", OFFICERS) for name in ("alice", "bob", "oidc:carol@bank.example"))
MALLORY = ("--as", "mallory", "--as-group", INTERNS)
STRANGER = ("--as", "stranger", "--as-group", "strangers")
STEPS: list[Document] = [
    {"weight": 30, "duration": "5s"},
    {"pause": {"approvals": {"needed": 1, "groups": [OFFICERS]}}},
    {"weight": 60, "duration": "5s"},
    {"pause": {"approvals": {"needed": 2, "groups": [OFFICERS]}}},
]
# Nobody listens there: the events of the timeline stay in the status, where the test reads them.
TIMELINE = ("--set=timeline.url=http://127.0.0.1:9", "--set=timeline.secret=")
DEFINITION = REPOSITORY / "charts/operator/files/approval-crd.yaml"


@pytest.fixture(scope="module")
def scenario(environment: Environment) -> Iterator[Scenario]:
    """A served champion and a ModelPromotion at rest, whose operator checks approvals."""
    environment.kubectl("default", "apply", "-f", str(DEFINITION))
    values = ("--set=approvals.enabled=true", *TIMELINE)
    try:
        with lone_scenario(environment, NAMESPACE, operator_values=values) as found:
            for group in (OFFICERS, INTERNS):
                bind = ("create", "rolebinding", group, "--role=model-promotion-approver", f"--group={group}")
                found.namespace.kubectl(*bind)
            found.follow_pointer(steps=STEPS)
            yield found
    finally:
        # Not in the namespace, so it does not go with it.
        webhook = f"mutatingwebhookconfiguration/model-promotion-approvals-{NAMESPACE}"
        environment.kubectl("default", "delete", webhook, "--ignore-not-found")


def create(scenario: Scenario, person: tuple[str, ...], **spec: object) -> tuple[int, str]:
    """Create a PromotionApproval as somebody writes it by hand; return kubectl's exit code and what it wrote."""
    stack = scenario.namespace.environment.stack_in(NAMESPACE)
    status = scenario.promotion.status()
    content = {"promotion": scenario.promotion.name, "version": status["canaryVersion"],
               "pausedAt": status["phaseStartedAt"], **spec}  # fmt: skip
    document = {"apiVersion": "creditrisk.io/v1alpha1", "kind": "PromotionApproval",
                "metadata": {"generateName": "by-hand-", "namespace": NAMESPACE}, "spec": content}  # fmt: skip
    command = [*stack.kubectl_command(), "create", "-f", "-", "-o", "json", *person]
    ended = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=60,
                           env=stack.environment())  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def waits_at(scenario: Scenario, step: str) -> Document:
    return scenario.promotion.wait_for(f"a pause at step {step}", lambda status: (
        (status.get("phase"), status.get("step")) == ("Paused", step)))  # fmt: skip


def users(status: Document) -> list[str]:
    return [entry["user"] for entry in status.get("approvals", {}).get("given", [])]


@contextmanager
def stopped_operator(scenario: Scenario) -> Iterator[None]:
    namespace = scenario.namespace
    namespace.kubectl("scale", "deployment/operator", "--replicas=0")
    # One that is being deleted still answers.
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/name=operator"
    namespace.wait_until("the operator is gone", lambda: not namespace.environment.api.get(pods)["items"])
    try:
        yield
    finally:
        namespace.kubectl("scale", "deployment/operator", "--replicas=1")
        namespace.wait_for_rollouts("operator")
        namespace.wait_until("the webhook answers", lambda: "failed calling" not in create(scenario, MALLORY)[1])


def assert_refused(scenario: Scenario, person: tuple[str, ...], why: str, **spec: object) -> None:
    code, said = create(scenario, person, **spec)
    assert code != 0
    assert why in said


def assert_nothing_else_helps(scenario: Scenario) -> None:
    """Assert who may not approve, that nobody can claim to be another, and that no manual action helps."""
    assert "mallory is in none of the groups" in plugin(scenario, "approve", *MALLORY, code=4)
    assert "no permission" in plugin(scenario, "approve", scenario.promotion.name, *STRANGER, code=4)
    assert_refused(scenario, ALICE, "the API server knows you as alice", user="bob")
    assert_refused(scenario, MALLORY, "mallory is in none of the groups", groups=[OFFICERS])
    assert_refused(scenario, ALICE, "version 999 is not being rolled out", version="999")
    for action in ("resume", "skip-step", "promote"):
        scenario.promotion.act(action)
    assert users(waits_at(scenario, "2/4")) == []
    assert "cannot take the place of approvals" in scenario.promotion.events()["ActionIgnored"]


def assert_recorded(scenario: Scenario) -> None:
    """Assert that status, timeline and plugin have everybody's name, time and comment."""
    status = scenario.promotion.status()
    names = ["oidc:carol@bank.example", "alice", "alice", "bob"]
    assert users(status) == names
    assert [entry["comment"] for entry in status["approvals"]["given"]] == ["I made it", "report read", "", "by hand"]
    assert all(entry["at"] for entry in status["approvals"]["given"])
    noted = [event for event in status["timeline"]["pending"] if event["kind"] == "ActedManually"]
    approvals = [event for event in noted if " approved version " in event["message"]]
    assert [event["movedBy"] for event in approvals] == names
    assert '("report read")' in approvals[1]["message"]
    assert "alice" in plugin(scenario, "explain", "--version", status["stableVersion"])


def test_a_version_goes_on_once_the_right_people_have_approved_it(scenario: Scenario) -> None:
    promotion, namespace = scenario.promotion, scenario.namespace
    assert "nothing waits for approvals" in plugin(scenario, "approve", *ALICE, code=4)
    registry = namespace.environment.registry
    with scenario.steady_clients():
        version = namespace.register(versions.good)
        run = registry.get_model_version(namespace.model, version).run_id
        registry.set_tag(str(run), "mlflow.user", "carol")
        namespace.move_pointer(version)
        waits_at(scenario, "2/4")
        assert_nothing_else_helps(scenario)

        # While the operator is down, an approval fails and everything else works.
        with stopped_operator(scenario):
            assert "does not answer" in plugin(scenario, "approve", *ALICE, code=5)
            namespace.kubectl("annotate", f"mp/{promotion.name}", "example.org/note=seen")

        # The trainer alone, and somebody else.
        plugin(scenario, "approve", "--comment", "I made it", *CAROL)
        waiting = promotion.wait_for("the trainer's approval", lambda status: len(users(status)) == 1)
        assert "may not be the only one to approve" in waiting["message"]
        assert "has approved version" in plugin(scenario, "approve", *CAROL, code=4)
        plugin(scenario, "approve", "--version", version, "--comment", "report read", *ALICE)
        waits_at(scenario, "4/4")

        # A second pause asks again, and is content with a PromotionApproval that nobody's plugin made.
        plugin(scenario, "approve", *ALICE)
        promotion.wait_for("alice's second approval", lambda status: len(users(status)) == 3)
        assert "report read" in plugin(scenario, "get")
        code, said = create(scenario, BOB, comment="by hand")
        assert code == 0, said
        scenario.assert_promoted(version)
    assert_recorded(scenario)

    # What was approved and by whom cannot be changed afterwards.
    stored = json.loads(said)
    assert (stored["spec"]["user"], stored["spec"]["groups"]) == ("bob", [OFFICERS])
    path = f"/apis/creditrisk.io/v1alpha1/namespaces/{NAMESPACE}/promotionapprovals/{stored['metadata']['name']}"
    with pytest.raises(AssertionError, match="cannot be changed"):
        namespace.environment.api.patch(path, {"spec": {"user": "alice"}})


@pytest.mark.soak
def test_an_abort_voids_approvals_and_the_next_rollout_asks_anew(scenario: Scenario) -> None:
    promotion = scenario.promotion
    with scenario.steady_clients():
        version = scenario.roll_out(versions.good)
        waits_at(scenario, "2/4")
        plugin(scenario, "approve", *CAROL)
        promotion.wait_for("an approval", lambda status: len(users(status)) == 1)
        plugin(scenario, "abort")
        scenario.assert_rolled_back(version, "Aborted")
        plugin(scenario, "retry")
        assert users(waits_at(scenario, "2/4")) == []
        plugin(scenario, "abort")
        promotion.wait_for_phase("Failed")
