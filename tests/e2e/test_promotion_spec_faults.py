"""ModelPromotions that cannot be followed are reported within one poll, and nothing that serves changes.

An API server that evaluates CEL rules refuses what breaks one of them. Older ones, from Kubernetes 1.20 on, accept it,
and the operator reports it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from e2e.namespace import ABSENT_TARGET
from e2e.parallel import promotion_scenario
from e2e.promotion import LONGEST_LINE, Fault, Promotion, column
from e2e.scenario import Scenario
from localcluster.console import ClusterError

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# The operator polls every second; a crowded machine needs the rest.
WITHIN_A_POLL_SECONDS = 20.0


@promotion_scenario(clients=False)
def test_an_invalid_spec_is_reported_or_refused_and_the_champion_stays(scenario: Scenario) -> None:
    promotion, model = scenario.promotion, scenario.namespace.model
    falling = [{"weight": 50, "duration": "5s"}, {"weight": 10, "duration": "5s"}]
    invalid: dict[str, dict[str, object]] = {
        "weights": {"steps": falling},
        "alias": {"model": {"name": model, "alias": "production", "version": scenario.stable}},
    }
    refused = scenario.namespace.environment.evaluates_cel()
    for word, spec in invalid.items():
        if refused:
            with pytest.raises(ClusterError, match=word):
                promotion.apply(**spec)
        else:
            promotion.apply(**spec)
            assert_not_ready(promotion, Fault.INVALID_SPEC, word)
    assert scenario.namespace.served() == scenario.stable

    promotion.apply()
    assert_ready(promotion)


@promotion_scenario()
def test_a_second_promotion_of_a_target_takes_over_when_the_first_is_deleted(scenario: Scenario) -> None:
    first, second = scenario.promotion, Promotion(scenario.namespace, "second")
    second.apply()
    assert_not_ready(second, Fault.TARGET_TAKEN, first.name)
    assert_ready(first)
    assert_table(scenario, {first.name: "True", second.name: "False"})

    first.delete()
    assert_ready(second)
    assert_table(scenario, {second.name: "True"})
    assert second.status()["stableVersion"] == scenario.namespace.served() == scenario.stable


@promotion_scenario(clients=False)
def test_a_target_that_is_absent_or_not_listed_in_the_operators_role_is_reported(scenario: Scenario) -> None:
    absent, unlisted = Promotion(scenario.namespace, "absent"), Promotion(scenario.namespace, "unlisted")
    absent.apply(targetRef={"name": ABSENT_TARGET})
    unlisted.apply(targetRef={"name": "not-listed"})
    assert_not_ready(absent, Fault.TARGET_NOT_FOUND, ABSENT_TARGET)
    assert_not_ready(unlisted, Fault.TARGET_FORBIDDEN, "not-listed", "targets")
    assert_table(scenario, {absent.name: "False", scenario.promotion.name: "True", unlisted.name: "False"})


def assert_not_ready(promotion: Promotion, fault: Fault, *words: str) -> None:
    """Assert that the condition and an Event report a fault, each with a message that contains the words."""

    def reported() -> bool:
        events = [message for message in promotion.event_messages(fault) if all(word in message for word in words)]
        return promotion.conditions().get("Ready") == ("False", fault) and bool(events)

    promotion.namespace.wait_until(
        f"{promotion.name} reports {fault} with {', '.join(words)}", reported, WITHIN_A_POLL_SECONDS,
        detail=lambda: f"{promotion.status().get('conditions')}, {promotion.events()}",
    )  # fmt: skip
    message = promotion.condition_message("Ready")
    assert all(word in message for word in words), message


def assert_ready(promotion: Promotion) -> None:
    """Assert that a promotion is Ready, or becomes so when what it reported is gone."""
    promotion.namespace.wait_until(
        f"{promotion.name} is Ready", lambda: promotion.conditions().get("Ready", ("", ""))[0] == "True",
        detail=lambda: str(promotion.status().get("conditions")),
    )  # fmt: skip


def assert_table(scenario: Scenario, ready: Mapping[str, str]) -> None:
    """Assert what `kubectl get mp` prints: READY of each promotion by name, a message each, within the line length."""
    lines = scenario.promotion.table()
    assert max(map(len, lines)) <= LONGEST_LINE, lines
    assert dict(zip(column(lines, "NAME"), column(lines, "READY"), strict=True)) == ready
    assert all(column(lines, "MESSAGE")), lines
