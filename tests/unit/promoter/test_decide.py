"""Decisions, case by case: every phase by every verdict, and what users do in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.api.route import LEAD_SECONDS
from promoter.api.rules import parse_spec
from promoter.api.spec import Spec
from promoter.api.status import FailedVersion, Phase, RouteState, State, Verdict, Window
from promoter.decision.actions import ApplyCanary, ApplyRoute, DeleteCanary, SetStableVersion, TagVersion
from promoter.decision.analysis import analysis_due
from promoter.decision.decide import DRAIN_SECONDS, LINGER_SECONDS, decide
from promoter.decision.observation import CanaryView, Observation, PodReading, RegistryView, StableView
from promoter.decision.routing import route_document
from unit.promoter.fakes import COPIES

NOW = 10_000.0
BASE: dict[str, Any] = {
    "model": {"name": "credit-risk"},
    "steps": [{"weight": 10, "duration": "60s"}, {"pause": {}}, {"weight": 50, "duration": "60s"}],
    "analysis": {"interval": "10s", "minSamples": 100, "failureLimit": 2, "errorLimit": 2},
    "progressDeadlineSeconds": 100,
}
LIMITLESS = {"metrics": [{"type": "ErrorRate"}]}


def spec_with(**changes: Any) -> Spec:
    return parse_spec({**BASE, **changes, "analysis": {**BASE["analysis"], **LIMITLESS, **changes.get("analysis", {})}})


SPEC = spec_with()


def rollout(phase: Phase, **changes: Any) -> State:
    """Return a state during the rollout of version 2, champion 1."""
    live = phase in {Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING}
    index = {Phase.PAUSED: 1}.get(phase, 0)
    weight = 10 if live else 0
    state = State(
        phase=phase, stable_version="1", canary_version="2", desired_version="2", step_index=index,
        step="" if phase == Phase.PROMOTING else f"{index + 1}/3", weight=weight, phase_started_at=NOW - 90,
        step_started_at=NOW - 90 if live else None, analyzed_at=NOW - 20, window=Window(opened_at=NOW - 90),
        route=RouteState(generation=5, stable_version="1", canary_version="2" if live else None, weight=weight),
        target="scoring", artifacts=COPIES,
    )  # fmt: skip
    return state.model_copy(update=changes)


def observe(state: State, *, ok: float = 0, errors: float = 0, **changes: Any) -> Observation:
    counters = {"canary/outcome/ok": ok, "canary/outcome/error": errors}
    observed = Observation(
        registry=RegistryView("2"),
        stable=StableView(True, state.stable_version, True, "t", "2 of 2", wanted=2, available=2),
        canary=CanaryView("2", "t", 1, 1),
        route=route_document(SPEC, state.route),
        pods=(PodReading("pod-0", NOW - 1, 5, counters),),
    )
    return replace(observed, **changes)


def after(state: State, observed: Observation, spec: Spec = SPEC) -> State:
    return decide(spec, 1, state, observed, NOW).state


COUNTS = {
    Verdict.SUCCESSFUL: {"ok": 500.0},
    Verdict.FAILED: {"ok": 100.0, "errors": 400.0},
    Verdict.INCONCLUSIVE: {"ok": 5.0},
    Verdict.ERROR: {},
}
P, S, R, F, ID, ST, PR, FI = (
    Phase.PAUSED, Phase.STARTING, Phase.ROLLING_BACK, Phase.FAILED, Phase.IDLE, Phase.STOPPING, Phase.PROMOTING,
    Phase.FINISHING,
)  # fmt: skip
RUN = Phase.PROGRESSING
# By phase the next phase on Successful, Failed (failureLimit reached), Inconclusive and Error (errorLimit reached).
# Starting depends on readiness alone, and a rollout that is ending is not analyzed anymore.
TABLE = {
    Phase.INITIALIZING: (ID, ID, ID, ID),
    Phase.IDLE: (S, S, S, S),
    Phase.STARTING: (RUN, RUN, RUN, RUN),
    Phase.PROGRESSING: (P, R, RUN, R),
    Phase.PAUSED: (P, R, P, R),
    Phase.PROMOTING: (PR, PR, PR, PR),
    Phase.FINISHING: (FI, FI, FI, FI),
    Phase.STOPPING: (ST, ST, ST, ST),
    Phase.ROLLING_BACK: (R, R, R, R),
    Phase.FAILED: (F, F, F, F),
}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_phase_by_every_verdict(phase: Phase, verdict: Verdict) -> None:
    changes: dict[str, Any] = {"failures": 1, "errors": 1}
    if phase == Phase.FAILED:
        changes["failed_versions"] = (FailedVersion(version="2", reason="AnalysisFailed", message="m", at=1.0),)
    state = rollout(phase, **changes)
    observed = observe(state, **COUNTS[verdict])
    if verdict == Verdict.ERROR:
        observed = replace(observed, pods=(PodReading("pod-0", error="timeout"),))
    row = dict(
        zip((Verdict.SUCCESSFUL, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR), TABLE[phase], strict=True)
    )
    found = after(state, observed)
    assert found.phase == row[verdict]
    assert found.message


Steps = list[dict[str, Any]]
TIMED: Steps = [{"weight": 10, "duration": "60s"}, {"pause": {"duration": "60s"}}, {"weight": 50, "duration": "60s"}]
LAST_PAUSE: Steps = [{"weight": 10, "duration": "60s"}, {"pause": {"duration": "60s"}}]
FIRST_PAUSE: Steps = [{"pause": {"duration": "60s"}}, {"weight": 10, "duration": "60s"}]
ONE: Steps = [{"weight": 10, "duration": "60s"}]
# By kind of step, with its time up, the next phase on Successful, Failed, Inconclusive and Error (below the limits).
STEPS: dict[str, tuple[Phase, int, Steps, tuple[Phase, ...]]] = {
    "a step": (Phase.PROGRESSING, 0, TIMED, (P, RUN, RUN, RUN)),
    "the last step": (Phase.PROGRESSING, 0, ONE, (PR, RUN, RUN, RUN)),
    "a timed pause": (Phase.PAUSED, 1, TIMED, (RUN, P, P, P)),
    "a timed pause at the end": (Phase.PAUSED, 1, LAST_PAUSE, (PR, P, P, P)),
    "a pause before any weight, where nothing is analyzed": (Phase.PAUSED, 0, FIRST_PAUSE, (RUN, RUN, RUN, RUN)),
}


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_a_successful_verdict_leaves_a_step(kind: str, verdict: Verdict) -> None:
    phase, index, steps, row = STEPS[kind]
    weight = 0 if steps is FIRST_PAUSE else 10
    state = rollout(
        phase, step_index=index, step=f"{index + 1}/{len(steps)}", weight=weight, route=RouteState(
            generation=5, stable_version="1", canary_version="2" if weight else None, weight=weight)
    )  # fmt: skip
    observed = observe(state, **COUNTS[verdict])
    if verdict == Verdict.ERROR:
        observed = replace(observed, pods=(PodReading("pod-0", error="timeout"),))
    found = after(state, observed, spec_with(steps=steps))
    expected = dict(zip((Verdict.SUCCESSFUL, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR), row, strict=True))
    assert found.phase == expected[verdict]
    assert found.message


def test_a_pause_without_weight_does_not_let_an_unready_canary_continue() -> None:
    state = rollout(Phase.PAUSED, step_index=0, step="1/2", weight=0)
    observed = observe(state, canary=CanaryView("2", "t", 1, 0, "evicted"))
    found = after(state, observed, spec_with(steps=FIRST_PAUSE))
    assert (found.phase, found.route.weight) == (Phase.STARTING, 0)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED])
def test_skipped_analysis_promotes_a_ready_canary_at_once(phase: Phase) -> None:
    state = rollout(phase)
    assert after(state, observe(state), spec_with(skipAnalysis=True)).phase == Phase.PROMOTING
    assert after(state, observe(state), spec_with(skipAnalysis=True, suspend=True)).phase == phase
    unready = observe(state, canary=CanaryView("2", "t", 1, 0, "pulling"))
    assert after(state, unready, spec_with(skipAnalysis=True)).phase == Phase.STARTING


def test_an_analysis_is_due_after_each_interval_and_at_the_end_of_a_step() -> None:
    state = rollout(Phase.PROGRESSING, analyzed_at=NOW - 9, step_started_at=NOW - 30)
    assert not analysis_due(SPEC, state, NOW)
    assert analysis_due(SPEC, state, NOW + 1)
    rare = spec_with(analysis={"interval": "1h"})
    assert not analysis_due(rare, state, NOW)
    assert analysis_due(rare, state, NOW + 30)
    assert not analysis_due(rare, state.model_copy(update={"step_started_at": None}), NOW + 30)
    assert not analysis_due(SPEC, rollout(Phase.PROMOTING), NOW)


def test_the_first_version_is_promoted_without_a_canary() -> None:
    observed = observe(State(), canary=CanaryView(), stable=StableView(True, None, True, "t"), route=None)
    found = decide(SPEC, 1, State(), observed, NOW)
    assert found.state.phase == Phase.PROMOTING
    assert not [action for action in found.actions if isinstance(action, ApplyCanary)]


def test_there_is_nothing_to_do_while_the_pointer_names_the_stable_version() -> None:
    state = rollout(Phase.IDLE, canary_version=None)
    observed = observe(state, registry=RegistryView("1"), canary=CanaryView())
    assert decide(SPEC, 1, state, observed, NOW).actions == ()


def test_a_return_to_a_recent_stable_version_skips_the_canary() -> None:
    last = rollout(Phase.IDLE, stable_history=("2",))
    assert after(last, observe(last)).phase == Phase.PROMOTING
    one_before = rollout(Phase.IDLE, stable_history=("3", "2"))
    assert after(one_before, observe(one_before)).phase == Phase.STARTING


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING])
@pytest.mark.parametrize(
    ("desired", "reason"), [("1", "PointerMovedBack"), (None, "PointerMovedBack"), ("3", "Superseded")]
)
def test_a_moved_pointer_stops_the_rollout_and_drops_the_weight(phase: Phase, desired: str | None, reason: str) -> None:
    state = rollout(phase)
    found = decide(SPEC, 1, state, observe(state, registry=RegistryView(desired)), NOW)
    assert (found.state.phase, found.state.reason, found.state.stable_version) == (Phase.STOPPING, reason, "1")
    assert found.state.route.weight == 0
    assert not found.state.failed_versions


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING])
def test_an_unreachable_registry_changes_nothing(phase: Phase) -> None:
    state = rollout(phase)
    found = after(state, observe(state, registry=RegistryView(error="refused"), ok=0))
    assert found.desired_version == "2"
    assert found.phase not in {Phase.STOPPING, Phase.ROLLING_BACK}
    condition = next(c for c in found.conditions if c.type == "RegistryReachable")
    assert (condition.status, condition.message) == ("False", "refused")


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED])
def test_a_crashing_canary_is_rolled_back_at_once(phase: Phase) -> None:
    state = rollout(phase)
    found = decide(SPEC, 1, state, observe(state, canary=CanaryView("2", "t", 1, 0, failure="CrashLoopBackOff")), NOW)
    assert found.state.phase == Phase.ROLLING_BACK
    assert found.state.failed("2")
    assert next(a for a in found.actions if isinstance(a, TagVersion)).tags["creditrisk.io.rollout"] == "rolled-back"
    assert any(event.type == "Warning" for event in found.state.pending_events)


def test_a_canary_that_is_not_ready_in_time_is_rolled_back() -> None:
    state = rollout(Phase.STARTING, phase_started_at=NOW - 101)
    found = after(state, observe(state, canary=CanaryView("2", "t", 1, 0, waiting="pod x: ImagePullBackOff")))
    assert (found.phase, found.reason) == (Phase.ROLLING_BACK, "ProgressDeadlineExceeded")
    assert "ImagePullBackOff" in found.message


def test_the_clock_of_a_step_starts_once_every_stable_pod_reports_its_weight() -> None:
    state = rollout(Phase.PROGRESSING, step_started_at=None)
    late = (PodReading("pod-0", 0, 5), PodReading("pod-1", 0, 4))
    waiting = after(state, observe(state, pods=late))
    assert waiting.step_started_at is None
    assert "pod-1 (applies generation 4, not 5)" in waiting.message
    assert waiting.verified_weight == 0
    verified = after(state, observe(state, pods=(PodReading("pod-0", 0, 5), PodReading("pod-1", 0, 5))))
    assert (verified.step_started_at, verified.verified_weight) == (NOW, 10)


@pytest.mark.parametrize(
    ("effective_in", "pods", "again"),
    [
        (4, {"pod-0": 4, "pod-1": 4}, False),
        (1, {"pod-0": 4, "pod-1": 4}, True),
        (-60, {"pod-0": 4, "pod-1": 4}, True),
        (-60, {}, True),
        # Applicants whom that pod sent to the canary are not sent back.
        (-60, {"pod-0": 5, "pod-1": 4}, False),
    ],
)
def test_the_weight_of_a_killed_operator_is_announced_again_if_no_pod_received_it(
    effective_in: float, pods: dict[str, int], again: bool
) -> None:
    state = rollout(Phase.PROGRESSING, step_started_at=None)
    state = state.model_copy(update={"route": state.route.model_copy(update={"effective_at": NOW + effective_in})})
    observed = observe(state, pods=tuple(PodReading(name, 0, generation) for name, generation in pods.items()))
    found = after(state, observed)
    assert found.route.effective_at == NOW + (LEAD_SECONDS if again else effective_in)
    assert (found.route.generation > state.route.generation) == again
    assert found.step_started_at is None


def test_a_pod_that_does_not_answer_may_have_received_the_weight() -> None:
    state = rollout(Phase.PROGRESSING, step_started_at=None)
    assert after(state, observe(state, pods=(PodReading("pod-0", error="TimeoutError"),))).route == state.route


def test_a_verified_weight_is_not_announced_again_for_new_pods() -> None:
    state = rollout(Phase.PROGRESSING, verified_weight=10)
    assert after(state, observe(state, pods=(PodReading("pod-9", 0, None),))).route == state.route


@pytest.mark.parametrize(
    ("choice", "phase"), [("Wait", Phase.PROGRESSING), ("Pause", Phase.PAUSED), ("Proceed", Phase.PAUSED)]
)
def test_a_step_with_insufficient_data_does_what_the_spec_asks_for(choice: str, phase: Phase) -> None:
    state = rollout(Phase.PROGRESSING)
    found = after(state, observe(state, ok=5), spec_with(analysis={"onInsufficientData": choice}))
    assert found.phase == phase
    assert found.paused_for_data == (choice == "Pause")


def test_a_promotion_is_complete_when_every_stable_pod_runs_the_version() -> None:
    state = rollout(Phase.PROMOTING)
    first = decide(SPEC, 1, state, observe(state), NOW)
    assert SetStableVersion("2") in first.actions
    rolling = after(state, observe(state, stable=StableView(True, "2", False, "t", "1 of 2")))
    assert (rolling.phase, rolling.stable_version, rolling.weight) == (Phase.PROMOTING, "1", 10)
    done = after(state, observe(state, stable=StableView(True, "2", True, "t")))
    assert (done.phase, done.stable_version, done.route.weight) == (Phase.FINISHING, "2", 0)
    assert done.stable_history == ("1",)


def test_a_promotion_that_misses_its_deadline_is_rolled_back() -> None:
    state = rollout(Phase.PROMOTING, phase_started_at=NOW - 101)
    found = after(state, observe(state, stable=StableView(True, "2", False, "t", "1 of 2")))
    assert (found.phase, found.reason) == (Phase.ROLLING_BACK, "PromotionDeadlineExceeded")
    back = decide(SPEC, 1, found, observe(found, stable=StableView(True, "2", False, "t")), NOW)
    assert SetStableVersion("1") in back.actions


def test_the_canary_is_deleted_only_after_every_stable_pod_applies_weight_0() -> None:
    state = rollout(Phase.ROLLING_BACK, phase_started_at=NOW - LINGER_SECONDS - 1)
    lagging = observe(state, pods=(PodReading("pod-0", 0, 4),))
    assert DeleteCanary() not in decide(SPEC, 1, state, lagging, NOW).actions
    assert DeleteCanary() in decide(SPEC, 1, state, observe(state), NOW).actions
    late = state.model_copy(update={"phase_started_at": NOW - DRAIN_SECONDS - 1})
    assert DeleteCanary() in decide(SPEC, 1, late, lagging, NOW).actions


def test_a_failed_version_is_not_tried_again_until_requested() -> None:
    failed = (FailedVersion(version="2", reason="AnalysisFailed", message="score PSI 0.31 > 0.20", at=1.0),)
    state = rollout(Phase.FAILED, failed_versions=failed, canary_version=None)
    resting = after(state, observe(state, canary=CanaryView()))
    assert resting.phase == Phase.FAILED
    assert "score PSI 0.31 > 0.20" in resting.message
    retried = after(state, observe(state, canary=CanaryView(), action="retry"))
    assert retried.phase == Phase.STARTING
    other = after(state, observe(state, canary=CanaryView(), registry=RegistryView("3")))
    assert (other.phase, other.canary_version) == (Phase.STARTING, "3")


@pytest.mark.parametrize(
    ("phase", "action", "next_phase"),
    [(Phase.PAUSED, "resume", Phase.PROGRESSING), (Phase.PROGRESSING, "abort", Phase.ROLLING_BACK),
     (Phase.STARTING, "abort", Phase.ROLLING_BACK), (Phase.PROGRESSING, "promote", Phase.PROMOTING),
     (Phase.PAUSED, "promote", Phase.PROMOTING), (Phase.IDLE, "resume", Phase.STARTING)],
)  # fmt: skip
def test_a_manual_action_is_handled_once_with_an_event(phase: Phase, action: str, next_phase: Phase) -> None:
    state = rollout(phase)
    first = decide(SPEC, 1, state, observe(state, action=action), NOW)
    assert first.state.phase == next_phase
    assert first.state.pending_events
    recorded = first.state.model_copy(update={"pending_events": ()})
    again = decide(SPEC, 1, recorded, observe(recorded, action=action), NOW)
    reasons = {event.reason for event in again.state.pending_events}
    assert not reasons & {"ActionIgnored", "Resumed", "Aborted", "PromotedManually"}


def test_a_suspended_promotion_starts_no_rollout_but_rolls_back_a_failing_version() -> None:
    suspended = spec_with(suspend=True)
    state = rollout(Phase.IDLE)
    assert after(state, observe(state), suspended).phase == Phase.IDLE
    running = rollout(Phase.PROGRESSING, failures=1)
    assert after(running, observe(running, ok=500), suspended).phase == Phase.PROGRESSING
    assert after(running, observe(running, ok=10, errors=400), suspended).phase == Phase.ROLLING_BACK


def test_a_canary_without_ready_pods_gets_no_requests() -> None:
    state = rollout(Phase.PROGRESSING)
    found = decide(SPEC, 1, state, observe(state, canary=CanaryView("2", "t", 1, 0, "evicted")), NOW)
    assert found.state.phase == Phase.STARTING
    assert [a.route.canary for a in found.actions if isinstance(a, ApplyRoute)] == [None]


def test_a_changed_pod_template_updates_the_canary_and_the_rollout_continues() -> None:
    state = rollout(Phase.PROGRESSING)
    found = decide(SPEC, 1, state, observe(state, stable=StableView(True, "1", False, "new")), NOW)
    assert ApplyCanary("2", 1) in found.actions
    assert found.state.phase == Phase.PROGRESSING


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.INITIALIZING, Phase.PROMOTING}))
def test_a_lost_version_annotation_is_restored(phase: Phase) -> None:
    state = rollout(phase, desired_version="1" if phase == Phase.IDLE else "2")
    observed = observe(state, stable=StableView(True, None, True, "t"))
    assert SetStableVersion("1") in decide(SPEC, 1, state, observed, NOW).actions


def test_removing_steps_during_a_rollout_does_not_end_it() -> None:
    state = rollout(Phase.PROGRESSING, step_index=2, step="3/3", weight=50)
    found = after(state, observe(state), spec_with(steps=[{"weight": 20, "duration": "60s"}]))
    assert (found.phase, found.step, found.weight) == (Phase.PROGRESSING, "1/1", 20)


def test_promoted_is_true_for_the_desired_version_only() -> None:
    def promoted(state: State) -> str:
        return next(c.status for c in state.conditions if c.type == "Promoted")

    idle = rollout(Phase.IDLE, canary_version=None)
    assert promoted(after(idle, observe(idle, registry=RegistryView("1"), canary=CanaryView()))) == "True"
    assert promoted(after(idle, observe(idle, canary=CanaryView()))) == "False"


def test_the_transition_time_of_a_condition_changes_only_with_its_status() -> None:
    state = rollout(Phase.STARTING)
    first = after(state, observe(state, canary=CanaryView("2", "t", 1, 0, "pulling")))
    later = decide(SPEC, 1, first, observe(first, canary=CanaryView("2", "t", 1, 0, "creating")), NOW + 5).state
    times = [{c.type: c.last_transition_time for c in s.conditions} for s in (first, later)]
    assert times[0] == times[1]


def test_a_target_deleted_in_mid_rollout_takes_its_canary_with_it() -> None:
    state = rollout(Phase.PROGRESSING)
    gone = decide(SPEC, 1, state, observe(state, stable=StableView(), canary=CanaryView("2", "t", 1, 1)), NOW)
    assert DeleteCanary() in gone.actions
    assert gone.state.phase == Phase.PROGRESSING
    assert (
        DeleteCanary()
        not in decide(SPEC, 1, state, observe(state, stable=StableView(), canary=CanaryView()), NOW).actions
    )


def test_a_missing_target_is_reported_once_with_what_to_do() -> None:
    missing = observe(State(), stable=StableView(), canary=CanaryView(), route=None)
    first = after(State(), missing)
    assert first.message.startswith("TargetNotFound: Deployment scoring does not exist; create it, or delete this")
    found = {c.type: (c.status, c.reason) for c in first.conditions}
    assert found["Ready"] == ("False", "TargetNotFound")
    assert found["Degraded"] == ("True", "TargetNotFound")
    again = after(first, missing)
    assert [event.reason for event in again.pending_events] == ["TargetNotFound"]
    there = after(again, observe(State(), stable=StableView(True, "2", True, "t"), canary=CanaryView(), route=None))
    assert (there.phase, there.stable_version) == (Phase.IDLE, "2")
    assert next(c for c in there.conditions if c.type == "Degraded").status == "False"
