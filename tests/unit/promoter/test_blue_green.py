"""BlueGreen: a full copy, copies of requests first, then one switch of all applicants, and a fast way back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.api.route import LEAD_SECONDS
from promoter.api.spec import Spec
from promoter.api.status import Phase, RouteState, State, Verdict
from promoter.decision.actions import ApplyCanary, ApplyRoute, DeleteCanary, SetStableVersion
from promoter.decision.decide import Decision, decide
from promoter.decision.observation import CanaryView, PodReading, StableView
from promoter.decision.plan import PlannedStep, plan
from promoter.decision.window import advance, next_window, open_window
from unit.promoter.fakes import COPIES
from unit.promoter.rollouts import Rollouts
from unit.promoter.test_decide import NOW, observe, rollout
from unit.promoter.test_decide_simulated import spec_with

BLUE_GREEN: dict[str, Any] = {"strategy": "BlueGreen", "blueGreen": {"observe": "30s", "keepFor": "10m"}}
SPEC = spec_with(**BLUE_GREEN, shadow={"duration": "10s"})
QUOTA = "exceeded quota: few"


def rollouts(spec: Spec = SPEC) -> Rollouts:
    found = Rollouts()
    found.spec = spec
    return found


def run(state: State, observed: Any, now: float = NOW) -> Decision:
    return decide(SPEC, 1, state, observed, now)


def pods(decision: Decision) -> list[int]:
    return [action.replicas for action in decision.actions if isinstance(action, ApplyCanary)]


@pytest.mark.parametrize(("shadow", "seconds"), [({}, 60), ({"shadow": {"duration": "10m"}}, 600)])
def test_the_plan_is_copies_of_requests_and_then_everybody(shadow: dict[str, Any], seconds: float) -> None:
    assert plan(spec_with(**BLUE_GREEN, **shadow)) == [
        PlannedStep("shadow", 100, seconds), PlannedStep("live", 100, 30),
    ]  # fmt: skip


def test_nobody_is_switched_before_there_are_as_many_ready_pods_as_stable_ones() -> None:
    state = rollout(Phase.STARTING, phase_started_at=NOW - 5)
    waiting = run(state, replace(observe(state), canary=CanaryView("2", "t", 1, 1)))
    assert (waiting.state.phase, pods(waiting)) == (Phase.STARTING, [2])
    assert waiting.state.message == "waiting for the canary: 1 of 2 pods are ready"
    ready = run(state, replace(observe(state), canary=CanaryView("2", "t", 2, 2)))
    assert (ready.state.phase, ready.state.route.mode, ready.state.weight) == (Phase.PROGRESSING, "shadow", 100)


def test_a_copy_for_which_there_is_no_room_is_rolled_back_after_the_deadline() -> None:
    state = rollout(Phase.STARTING, phase_started_at=NOW - 61)
    found = run(state, replace(observe(state), canary=CanaryView("2", "t", 2, 1, refused=QUOTA))).state
    assert (found.phase, found.reason) == (Phase.ROLLING_BACK, "ProgressDeadlineExceeded")
    assert QUOTA in found.failed_versions[0].message


def test_a_good_version_gets_all_applicants_at_once_and_keeps_them() -> None:
    found = rollouts()
    found.environment.desired = "2"
    found.turn()
    found.until(Phase.IDLE)
    assert [versions for versions in found.in_force if versions[1] or versions[0] == "2"] == [
        ("1", "2", 0, "shadow"), ("1", "2", 100, "live"), ("2", None, 0, "live"),
    ]  # fmt: skip
    assert found.state.history[0].outcome == "Promoted"


def test_a_version_that_fails_on_copies_of_requests_answers_nobody() -> None:
    found = rollouts()
    found.environment.desired, found.good = "2", False
    found.turn()
    found.until(Phase.FAILED)
    assert not [versions for versions in found.in_force if versions[1] == "2" and versions[3] == "live"]


@pytest.mark.parametrize("abort", [True, False], ids=["abort", "failed analysis"])
def test_after_the_switch_the_way_back_is_written_in_the_turn_that_decides_it(abort: bool) -> None:
    found = rollouts(spec_with(strategy="BlueGreen", shadow={"duration": "3s"}))
    found.environment.desired = "2"
    found.turn()
    while found.state.verified_weight != 100:
        found.turn()
    if abort:
        found.act("abort")
    else:
        found.good = False
        found.until(Phase.ROLLING_BACK)
    assert found.state.phase == Phase.ROLLING_BACK
    assert found.environment.route is not None
    assert found.environment.route.canary is None, "the switch back takes effect as the pods receive it"


def test_the_switch_is_announced_to_all_stable_pods() -> None:
    shadow = RouteState(generation=5, stable_version="1", canary_version="2", weight=100, mode="shadow")
    state = rollout(Phase.PROGRESSING, step="1/2", weight=100, step_started_at=NOW - 10, analyzed_at=NOW - 6,
                    route=shadow)  # fmt: skip
    observed = replace(observe(state, ok=500.0), canary=CanaryView("2", "t", 2, 2, config_maps=COPIES[1].config_maps))
    spec = spec_with(**BLUE_GREEN, shadow={"duration": "10s"}, analysis={"metrics": [{"type": "ErrorRate"}]})
    decision = decide(spec, 1, state, observed, NOW)
    (route,) = [action.route.canary for action in decision.actions if isinstance(action, ApplyRoute)]
    assert route is not None
    assert (route.mode, route.weight, route.previous_weight) == ("live", 100, 0)
    assert route.effective_at == NOW + LEAD_SECONDS


def test_latency_after_the_switch_is_compared_with_the_champions_before_it() -> None:
    def reading(stable: float, canary: float, rise: float = 0.0) -> PodReading:
        counters = {"stable/seconds/0.1": stable, "canary/seconds/0.1": canary, "pair/rise": rise}
        return PodReading("pod-0", 0.0, 1, counters)

    before = advance(open_window([reading(0, 0)], now=1), [reading(70, 60)])
    now = [reading(80, 65, rise=2)]
    switched = next_window(before, now, 2, keep_champion=True)
    assert switched.totals == {"stable/seconds/0.1": 80, "pair/rise": 2}
    assert next_window(before, now, 2).totals == {"pair/rise": 2}


def test_after_the_switch_every_metric_can_still_be_successful() -> None:
    found = rollouts(spec_with(strategy="BlueGreen", shadow={"duration": "3s"}, blueGreen={"observe": "1h"}))
    found.environment.desired = "2"
    found.turn()
    while found.state.step_index != 1 or found.state.step_started_at is None:
        found.turn()
    kept = {key: value for key, value in found.environment.counters.items() if key.startswith("stable/")}
    for _ in range(20):
        # At 100 % the champion answers nobody.
        found.environment.counters |= kept
        found.turn()
    assert found.state.analysis is not None
    assert found.state.analysis.verdict == Verdict.SUCCESSFUL, found.state.message


@pytest.mark.parametrize("step", [0, 1], ids=["a return to what was kept", "after the switch"])
def test_a_copy_that_takes_the_room_of_the_stable_pods_gives_one_pod_back_and_keeps_everybody(step: int) -> None:
    state = rollout(Phase.PROMOTING, weight=100, step_index=step, phase_started_at=NOW - 5,
                    route=RouteState(generation=5, stable_version="1", canary_version="2", weight=100))  # fmt: skip
    stuck = StableView(True, "2", False, "t", "0 of 4 updated", wanted=4, available=4, stalled=QUOTA)
    found = run(state, replace(observe(state), stable=stuck, canary=CanaryView("2", "t", 4, 4)))
    assert (pods(found), found.state.weight) == ([3], 100)
    again = run(state, replace(observe(state), stable=stuck, canary=CanaryView("2", "t", 3, 3)))
    assert pods(again) == []


def promoted(spec: Spec = SPEC) -> Rollouts:
    found = rollouts(spec)
    found.environment.desired = "2"
    found.turn()
    found.until(Phase.IDLE)
    return found


def test_a_full_copy_of_the_version_before_stays_ready_for_a_while() -> None:
    found = promoted()
    environment = found.environment
    assert (found.state.kept_version, environment.canary_version, environment.canary_replicas) == ("1", "1", 2)
    assert environment.route is not None
    assert environment.route.canary is None
    environment.now += 600
    found.turn()
    found.turn()
    assert (found.state.kept_version, environment.canary_version) == (None, None)


def test_a_return_to_the_version_that_was_kept_switches_everybody_before_any_pod_is_updated() -> None:
    found = promoted()
    found.environment.desired = "1"
    began = found.environment.now
    while found.state.verified_weight != 100:
        assert found.environment.stable_version == "2", "the stable pods change before everybody is switched"
        found.turn()
    assert found.state.canary_version == "1"
    assert found.environment.now - began <= LEAD_SECONDS + 5 * 3, "the announcement, and five turns of three seconds"
    found.until(Phase.IDLE)
    assert (found.state.stable_version, found.state.kept_version) == ("1", "2")


@pytest.mark.parametrize("change", ["copy lost", "another strategy", "not asked for"])
def test_nothing_is_kept_that_is_not_wanted_or_could_not_start(change: str) -> None:
    found = promoted(spec_with(**{**BLUE_GREEN, "blueGreen": {"observe": "9s"}}) if change == "not asked for" else SPEC)
    environment = found.environment
    if change == "another strategy":
        found.spec = spec_with()
    if change == "copy lost":
        environment.canary_version, environment.canary_maps = None, ()
        environment.copies.discard("model-1")
    found.turn()
    found.turn()
    assert environment.canary_version is None
    assert found.state.kept_version is None


def test_another_rollout_takes_the_place_of_what_is_kept() -> None:
    found = promoted()
    found.environment.desired = "3"
    found.turn()
    assert (found.state.phase, found.state.kept_version) == (Phase.STARTING, None)
    found.until(Phase.IDLE)
    assert (found.state.stable_version, found.state.kept_version) == ("3", "2")


@pytest.mark.parametrize("action", ["promote", "skip-step"])
def test_a_rollout_of_more_steps_is_promoted_though_the_strategy_has_changed(action: str) -> None:
    state = rollout(Phase.PROGRESSING, step_index=2, step="3/3")
    found = run(state, replace(observe(state, ok=500.0), action=action)).state
    assert (found.phase, found.weight) == (Phase.PROMOTING, 10)


def test_the_canary_is_deleted_without_a_version_to_keep() -> None:
    state = rollout(Phase.FINISHING, stable_version="2", canary_version="2", phase_started_at=NOW - 10,
                    route=RouteState(generation=5, stable_version="2"))  # fmt: skip
    actions = run(state, observe(state)).actions
    assert any(isinstance(action, DeleteCanary) for action in actions)
    assert not any(isinstance(action, SetStableVersion | ApplyCanary) for action in actions)
