"""The route for a state: larger weights are announced, smaller ones take effect at once."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from promoter.api.route import LEAD_SECONDS
from promoter.api.spec import ModelRef, Shadow, Spec, Step
from promoter.api.status import Phase, RouteState, State
from promoter.decision.routing import route_document, wanted_route

NOW = 1_800_000_000.0
SPEC = Spec(model=ModelRef(name="loans"), steps=(Step(weight=30, duration="1m"), Step(weight=60, duration="1m")))


BEFORE = RouteState(generation=5, stable_version="1")


def route(
    weight: int, old: RouteState = BEFORE, *, spec: Spec = SPEC, now: float = NOW, increase_unseen: bool = False
) -> RouteState:
    state = State(phase=Phase.PROGRESSING, stable_version="1", canary_version="2", weight=weight, route=old)
    return wanted_route(spec, state, now, increase_unseen=increase_unseen)


def test_a_larger_weight_takes_effect_once_every_pod_had_time_to_receive_it() -> None:
    first = route(30)
    assert (first.weight, first.previous_weight, first.effective_at) == (30, 0, NOW + LEAD_SECONDS)
    assert not first.in_force(NOW)
    assert first.in_force(NOW + LEAD_SECONDS)
    second = route(60, first, now=NOW + 60)
    assert (second.previous_weight, second.effective_at) == (30, NOW + 60 + LEAD_SECONDS)


def test_a_weight_raised_again_before_it_took_effect_starts_from_the_weight_in_force() -> None:
    first = route(30)
    assert route(60, first, now=NOW + 1).previous_weight == 0


def test_a_weight_that_no_pod_received_in_time_is_announced_again() -> None:
    first = route(60, route(30), now=NOW + 60)
    again = route(60, first, now=NOW + 90, increase_unseen=True)
    assert (again.weight, again.previous_weight, again.effective_at) == (60, 30, NOW + 90 + LEAD_SECONDS)
    assert again.generation > first.generation
    assert route(80, first, now=NOW + 90, increase_unseen=True).previous_weight == 30


def test_the_route_stays_while_the_weight_stays() -> None:
    first = route(30)
    assert route(30, first, now=NOW + 60) == first


@pytest.mark.parametrize("weight", [0, 10])
def test_a_smaller_weight_takes_effect_at_once(weight: int) -> None:
    fallen = route(weight, route(30), now=NOW + 60)
    assert fallen.weight == weight
    assert fallen.in_force(NOW + 60)


@pytest.mark.parametrize("old", [{"canary_version": "3"}, {"canary_version": "2", "mode": "shadow"}])
def test_the_weight_of_another_canary_or_of_a_shadow_is_not_a_start(old: dict[str, str]) -> None:
    assert route(30, BEFORE.model_copy(update={"weight": 100, **old})).previous_weight == 0


def test_a_shadow_weight_needs_no_announcement() -> None:
    assert route(100, spec=SPEC.model_copy(update={"shadow": Shadow()})).in_force(NOW)


def test_generations_increase_across_promotions_of_the_same_target() -> None:
    deleted = route(30, now=NOW)
    fresh = route(30, RouteState(), now=NOW + 1)
    assert fresh.generation > deleted.generation
    assert route(60, deleted).generation > deleted.generation


CONTRACTS = Path(__file__).parents[3] / "contracts"
SCHEMA = json.loads((CONTRACTS / "route.schema.json").read_text())


def golden(name: str) -> dict[str, object]:
    return dict(json.loads((CONTRACTS / "golden" / f"{name}.json").read_text()))


def test_the_operator_writes_the_golden_route() -> None:
    state = RouteState(generation=1764300000, stable_version="3", canary_version="4", weight=25, previous_weight=5,
                       effective_at=1764300005.5)  # fmt: skip
    document = route_document(Spec(model=ModelRef(name="credit-risk")), state)
    assert json.loads(document.to_json()) == golden("route")


def test_the_operator_writes_the_golden_route_without_a_canary() -> None:
    state = RouteState(generation=7, stable_version="3")
    document = route_document(Spec(model=ModelRef(name="credit-risk")), state)
    assert json.loads(document.to_json()) == golden("route-without-canary")


@pytest.mark.parametrize("spec", [SPEC, SPEC.model_copy(update={"shadow": Shadow()})])
@pytest.mark.parametrize("weight", [0, 30, 60])
def test_every_written_route_fits_the_schema(spec: Spec, weight: int) -> None:
    document = json.loads(route_document(spec, route(weight, spec=spec)).to_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert ("canary" in document) == (weight > 0)
