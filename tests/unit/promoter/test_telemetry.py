"""The operator's metrics follow the state: conditions change, and nothing of a deleted promotion stays."""

from __future__ import annotations

from typing import Literal

from prometheus_client import generate_latest

from promoter.api.resource import Owner
from promoter.api.status import Condition, State
from promoter.telemetry import Telemetry

OWNER = Owner(namespace="bank", name="loans", uid="u")


def state(status: Literal["True", "False"], reason: str, weight: int = 0) -> State:
    degraded = Condition(
        type="Degraded", status=status, reason=reason, message="", last_transition_time="2026-11-28T00:00:00Z"
    )
    return State(conditions=(degraded,), weight=weight)


def conditions(telemetry: Telemetry) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["status"], sample.labels["reason"]): sample.value
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "promoter_condition"
    }


def test_only_the_current_status_and_reason_of_a_condition_are_reported() -> None:
    telemetry = Telemetry()
    telemetry.set_gauges(OWNER, state("True", "CapacityLow", 5))
    assert conditions(telemetry) == {("True", "CapacityLow"): 1.0}
    telemetry.set_gauges(OWNER, state("True", "RegistryUnreachable", 25))
    assert conditions(telemetry) == {("True", "RegistryUnreachable"): 1.0}
    telemetry.set_gauges(OWNER, state("False", "AsExpected", 25))
    assert conditions(telemetry) == {("False", "AsExpected"): 1.0}
    labels = {"namespace": "bank", "name": "loans"}
    assert telemetry.registry.get_sample_value("promoter_weight_percent", labels) == 25


def test_nothing_of_a_deleted_promotion_is_reported() -> None:
    telemetry = Telemetry()
    telemetry.set_gauges(OWNER, state("True", "CapacityLow"))
    telemetry.remove(OWNER)
    assert b"loans" not in generate_latest(telemetry.registry)
