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
