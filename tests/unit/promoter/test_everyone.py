"""Before the stable pods change their version, the canary answers everybody, if there is room for its pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promoter.api.status import Phase, RouteState, State
from promoter.decision.actions import ApplyCanary, ApplyRoute, SetStableVersion
from promoter.decision.decide import Decision, decide
from promoter.decision.everyone import READY_SECONDS, REFUSED_SECONDS
from promoter.decision.observation import CanaryView, Observation, PodReading, StableView
from unit.promoter.test_decide import NOW, observe, rollout, spec_with

SPEC = spec_with(progressDeadlineSeconds=600)
QUOTA = 'pods "scoring-canary-x" is forbidden: exceeded quota: few'
MAPS = ("scoring-model-2",)


def promoting(**changes: object) -> State:
    return rollout(Phase.PROMOTING, phase_started_at=NOW - 5, **changes)


def with_canary(state: State, replicas: int, ready: int, **changes: object) -> Observation:
    observed = observe(state)
    maps = observed.canary.config_maps
    return replace(observed, canary=CanaryView("2", "t", replicas, ready, config_maps=maps, **changes))  # type: ignore[arg-type]


def run(state: State, observed: Observation, now: float = NOW) -> Decision:
    return decide(SPEC, 1, state, observed, now)


def updates(decision: Decision) -> bool:
    return any(isinstance(action, SetStableVersion) for action in decision.actions)


def scaled_to(decision: Decision) -> list[int]:
    return [action.replicas for action in decision.actions if isinstance(action, ApplyCanary)]


def at_canary(weight: int, generation: int = 6, effective_at: float | None = None) -> State:
    """Return a promotion whose canary has a share of the applicants."""
    route = RouteState(generation=generation, stable_version="1", canary_version="2", weight=weight,
                       effective_at=effective_at)  # fmt: skip
    return promoting(weight=weight, route=route)


def seen(state: State, generation: int, **changes: object) -> Observation:
    observed = with_canary(state, 2, 2)
    return replace(observed, pods=(PodReading("pod-0", 0.0, generation),), **changes)  # type: ignore[arg-type]


def test_the_canary_first_gets_as_many_pods_as_there_are_stable_ones() -> None:
    state = promoting()
    found = run(state, with_canary(state, 1, 1, refused=QUOTA))
    assert (scaled_to(found), updates(found), found.state.weight) == ([2], False, 10)
    assert found.state.message == (
        "waiting for the canary to answer all applicants before the stable pods are updated: 1 of 2 pods are ready; "
        + QUOTA
    )


def test_the_stable_pods_are_updated_once_all_of_them_send_everybody_to_the_canary() -> None:
    ready = run(promoting(), with_canary(promoting(), 2, 2))
    assert (ready.state.weight, updates(ready)) == (100, False)
    (route,) = [action.route.canary for action in ready.actions if isinstance(action, ApplyRoute)]
    assert route is not None
    assert (route.weight, route.previous_weight, route.effective_at) == (100, 10, NOW + 5)
    written = at_canary(100, effective_at=NOW + 5)
    assert not updates(run(written, seen(written, 6))), "not in force yet"
    assert not updates(run(written, seen(written, 5), NOW + 6)), "one pod has the route before"
    assert updates(run(written, seen(written, 6), NOW + 6))
    assert updates(run(written, replace(seen(written, 6), pods=()), NOW + 6)), "no stable pod is ready to be waited for"


def test_a_promotion_without_a_live_share_gives_the_canary_everybody_too() -> None:
    state = promoting(weight=0, route=RouteState(generation=5, stable_version="1"))
    found = run(state, replace(seen(state, 5), canary=CanaryView("2", "t", 2, 2)))
    assert (found.state.weight, found.state.route.mode, updates(found)) == (100, "live", False)


@pytest.mark.parametrize(
    ("canary", "seconds"),
    [(CanaryView("2", "t", 2, 1, refused=QUOTA), REFUSED_SECONDS), (CanaryView("2", "t", 2, 1), READY_SECONDS),
     (CanaryView("2", "t", 2, 0), READY_SECONDS)],
)  # fmt: skip
def test_without_room_the_promotion_goes_on_after_a_while_with_the_canarys_share(
    canary: CanaryView, seconds: float
) -> None:
    state = rollout(Phase.PROMOTING, phase_started_at=NOW - seconds)
    early = run(state, replace(observe(state), canary=canary), NOW - 1)
    assert (updates(early), scaled_to(early)) == (False, [])
    found = run(state, replace(observe(state), canary=canary))
    assert (updates(found), scaled_to(found)) == (True, [1])
    assert found.state.weight == (10 if canary.ready else 0)


@pytest.mark.parametrize("stable", ["1", None])
def test_a_version_without_a_canary_is_promoted_at_once(stable: str | None) -> None:
    state = promoting(weight=0, stable_version=stable, route=RouteState(generation=5, stable_version=stable))
    observed = replace(observe(state), canary=CanaryView(), stable=StableView(True, stable, True, "t", wanted=2))
    assert updates(run(state, observed))


def test_a_pod_that_never_gets_the_route_ends_the_promotion_after_the_deadline() -> None:
    state = at_canary(100).model_copy(update={"phase_started_at": NOW - 601})
    found = run(state, seen(state, 5))
    assert (found.state.phase, found.state.reason) == (Phase.ROLLING_BACK, "RouteNotSeen")
    assert "pod-0 (applies generation 5, not 6)" in found.state.failed_versions[0].message


def test_a_promotion_ends_only_when_no_pod_of_the_old_version_answers_anymore() -> None:
    state = at_canary(100)
    stable = StableView(True, "2", True, "t", "2 of 2 updated", wanted=2, available=2, outdated=("scoring-old",))
    waiting = run(state, seen(state, 6, stable=stable)).state
    assert (waiting.phase, waiting.weight) == (Phase.PROMOTING, 100)
    assert waiting.message.endswith("2 of 2 updated; waiting for the end of scoring-old")
    assert run(state, seen(state, 6, stable=replace(stable, outdated=()))).state.phase == Phase.FINISHING
    late = state.model_copy(update={"phase_started_at": NOW - 601})
    assert run(late, seen(late, 6, stable=stable)).state.phase == Phase.FINISHING, "a node may be lost with its pod"


def test_a_canary_that_takes_the_room_of_the_stable_pods_gives_it_back() -> None:
    state = at_canary(100)
    stuck = StableView(True, "2", False, "t", "0 of 2 updated", wanted=2, available=2, stalled=QUOTA)
    found = run(state, seen(state, 6, stable=stuck))
    assert (scaled_to(found), found.state.weight, found.state.phase) == ([1], 10, Phase.PROMOTING)
    again = run(state, replace(seen(state, 6, stable=stuck), canary=CanaryView("2", "t", 1, 1)))
    assert scaled_to(again) == []
