"""An abort goes back as long as the promotion is not complete, and has no effect otherwise."""

from __future__ import annotations

import pytest

from promoter.api.status import Event, Phase
from promoter.decision.observation import StableView
from unit.promoter.test_decide import NOW, after, observe, rollout


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.FINISHING, Phase.STOPPING, Phase.ROLLING_BACK])
def test_an_abort_without_a_rollout_in_progress_has_no_effect_and_says_so(phase: Phase) -> None:
    state = rollout(phase, stable_version="2", weight=0, reason="Aborted")
    plain, aborted = after(state, observe(state)), after(state, observe(state, action="abort"))
    expected = Event(
        reason="ActionIgnored", type="Warning", at=NOW,
        message=f"action abort does not apply in phase {phase}: only a rollout in progress can be aborted, until every "
        "stable pod serves its version",
    )  # fmt: skip
    assert expected in aborted.pending_events
    without = {"pending_events": (), "handled_action": ""}
    assert aborted.model_copy(update=without) == plain.model_copy(update=without)


@pytest.mark.parametrize("rolled_out", [True, False])
def test_an_abort_goes_back_even_in_the_turn_that_would_have_completed_the_promotion(rolled_out: bool) -> None:
    state = rollout(Phase.PROMOTING)
    stable = StableView(True, "2", rolled_out, "t", wanted=2, available=2)
    found = after(state, observe(state, stable=stable, action="abort"))
    assert (found.phase, found.stable_version, found.weight) == (Phase.ROLLING_BACK, "1", 0)
    assert [entry.outcome for entry in found.history] == ["RolledBack"]


@pytest.mark.parametrize(
    ("phase", "entered", "step"), [(Phase.PROGRESSING, Phase.PAUSED, "2/3"), (Phase.PAUSED, Phase.PROGRESSING, "3/3")]
)
def test_a_step_is_skipped_before_its_time_is_up(phase: Phase, entered: Phase, step: str) -> None:
    state = rollout(phase, step_started_at=NOW - 1, phase_started_at=NOW - 1)
    found = after(state, observe(state, action="skip-step"))
    assert (found.phase, found.step) == (entered, step)
    assert "StepSkipped" in {event.reason for event in found.pending_events}


def test_a_step_is_not_skipped_without_a_canary_that_could_answer() -> None:
    state = rollout(Phase.STARTING)
    found = after(state, observe(state, action="skip-step"))
    assert found.phase == Phase.PROGRESSING
    assert [event.reason for event in found.pending_events if event.type == "Warning"] == ["ActionIgnored"]


def test_a_step_is_not_skipped_before_every_stable_pod_applies_its_weight() -> None:
    state = rollout(Phase.PROGRESSING, step_started_at=None, phase_started_at=NOW - 1)
    found = after(state, observe(state, pods=(), action="skip-step"))
    assert (found.phase, found.step) == (Phase.PROGRESSING, "1/3")
    assert [event.reason for event in found.pending_events if event.type == "Warning"] == ["ActionIgnored"]
