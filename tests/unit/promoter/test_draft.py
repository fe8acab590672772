"""The route that fits a state: weights that grow are announced, weights that fall fall at once."""

from __future__ import annotations

import pytest

from promoter.api.spec import ModelRef, Shadow, Spec, Step
from promoter.decision.draft import ROUTE_LEAD_SECONDS, wanted_route
from promoter.decision.state import Phase, RouteState, State

NOW = 1_800_000_000.0
SPEC = Spec(model=ModelRef(name="loans"), steps=(Step(weight=30, duration="1m"), Step(weight=60, duration="1m")))


BEFORE = RouteState(generation=5, stable_version="1")


def route(
    weight: int, old: RouteState = BEFORE, *, spec: Spec = SPEC, now: float = NOW, unheard: bool = False
) -> RouteState:
    state = State(phase=Phase.PROGRESSING, stable_version="1", canary_version="2", weight=weight, route=old)
    return wanted_route(spec, state, now, unheard=unheard)


def test_a_weight_that_grows_holds_once_every_pod_had_time_to_learn_of_it() -> None:
    first = route(30)
    assert (first.weight, first.raised_from, first.raised_at) == (30, 0, NOW + ROUTE_LEAD_SECONDS)
    assert not first.in_force(NOW)
    assert first.in_force(first.raised_at)
    second = route(60, first, now=NOW + 60)
    assert (second.raised_from, second.raised_at) == (30, NOW + 60 + ROUTE_LEAD_SECONDS)


def test_a_weight_that_grows_again_before_it_held_grows_from_the_one_that_holds() -> None:
    first = route(30)
    assert route(60, first, now=NOW + 1).raised_from == 0


def test_a_weight_that_no_pod_heard_of_in_time_is_announced_anew() -> None:
    first = route(60, route(30), now=NOW + 60)
    again = route(60, first, now=NOW + 90, unheard=True)
    assert (again.weight, again.raised_from, again.raised_at) == (60, 30, NOW + 90 + ROUTE_LEAD_SECONDS)
    assert again.generation > first.generation
    assert route(80, first, now=NOW + 90, unheard=True).raised_from == 30


def test_nothing_changes_while_the_weight_stays() -> None:
    first = route(30)
    assert route(30, first, now=NOW + 60) == first


@pytest.mark.parametrize("weight", [0, 10])
def test_a_weight_that_falls_falls_at_once(weight: int) -> None:
    fallen = route(weight, route(30), now=NOW + 60)
    assert fallen.weight == weight
    assert fallen.in_force(NOW + 60)


@pytest.mark.parametrize("old", [{"canary_version": "3"}, {"canary_version": "2", "mode": "shadow"}])
def test_another_canarys_or_a_shadows_weight_is_no_beginning(old: dict[str, str]) -> None:
    assert route(30, BEFORE.model_copy(update={"weight": 100, **old})).raised_from == 0


def test_a_shadow_answers_nobody_and_needs_no_announcement() -> None:
    assert route(100, spec=SPEC.model_copy(update={"shadow": Shadow()})).in_force(NOW)


def test_generations_grow_over_the_life_of_several_promotions() -> None:
    deleted = route(30, now=NOW)
    fresh = route(30, RouteState(), now=NOW + 1)
    assert fresh.generation > deleted.generation
    assert route(60, deleted).generation > deleted.generation
