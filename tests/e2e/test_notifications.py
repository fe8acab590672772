"""A rollout tells a chat and a receiver of CloudEvents, although both are busy at first and the operator is killed."""

from __future__ import annotations

import json
import secrets

import pytest

from e2e import model_versions as versions
from e2e.namespace import ScenarioNamespace
from e2e.parallel import promotion_scenario
from e2e.pods import OPERATOR
from e2e.receiver import NAME, PORT, Receiver
from e2e.scenario import Scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SECRET, EVENTS_PATH = "receivers", "/events"


@pytest.mark.soak
@promotion_scenario(own_operator=True, steps=[{"weight": 30, "duration": "10s"}, {"weight": 60, "duration": "5s"}])
def test_start_and_promotion_are_told_in_order(scenario: Scenario) -> None:
    namespace, promotion, champion = scenario.namespace, scenario.promotion, scenario.stable
    hook = f"/services/{secrets.token_hex(8)}"
    token = secrets.token_hex(8)
    receiver = Receiver(namespace)
    try:
        receiver.start()
        namespace.kubectl("create", "secret", "generic", SECRET, f"--from-literal=token={token}",
                          f"--from-literal=url=http://{NAME}:{PORT}{hook}")  # fmt: skip
        install_operator(
            namespace, "events={RolloutStarted,Promoted,RolledBack}", f"slack.existingSecret={SECRET}",
            f"cloudEvents.url=http://{NAME}:{PORT}{EVENTS_PATH}", f"cloudEvents.existingSecret={SECRET}",
            "cloudEvents.tokenKey=token",
        )  # fmt: skip
        version = scenario.roll_out(versions.good)
        promotion.wait_for_weight(30)
        namespace.kubectl("delete", "pod", "-l", OPERATOR, "--grace-period=1")
        scenario.assert_promoted(version)
        promotion.wait_for("everything is delivered", lambda s: not s["notifications"]["pending"])

        events = [json.loads(request["body"]) for request in receiver.taken(EVENTS_PATH)]
        by_id = {event["id"]: event for event in events}
        assert [event["data"]["kind"] for event in by_id.values()] == ["RolloutStarted", "Promoted"]
        assert {event["data"]["version"] for event in by_id.values()} == {version}
        assert {event["source"].rpartition("/namespaces/")[2] for event in by_id.values()} == {
            f"{namespace.name}/modelpromotions/{promotion.name}"}  # fmt: skip
        texts = list(dict.fromkeys(json.loads(request["body"])["text"] for request in receiver.taken(hook)))
        assert [text.splitlines()[0] for text in texts] == [
            f"*{namespace.model}: the rollout of version {version} has started; version {champion} is the champion*",
            f"*{namespace.model}: version {version} was promoted: it replaces version {champion}*",
        ]  # fmt: skip
        for place in ("\n".join(namespace.operator_log()), namespace.kubectl("get", "mp,events", "--output=json")):
            assert hook not in place
            assert token not in place
    finally:
        install_operator(namespace)
        receiver.remove()
        namespace.kubectl("delete", "secret", SECRET, "--ignore-not-found")


def install_operator(namespace: ScenarioNamespace, *notifications: str) -> None:
    """Upgrade the namespace's own operator to these values of notifications, and wait until it runs."""
    values = (f"--set=notifications.{value}" for value in notifications)
    poll = "--set=pollSeconds=1"
    namespace.environment.helm_install("operator", namespace.name, "--set=crd.install=false", poll, *values)
    namespace.wait_for_rollouts("operator")
