"""Autoscalers do not scale the stable pods in during a rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.api.status import RESTING, Phase, State
from promoter.decision.actions import DisableScaleIn, RestoreScaleIn
from promoter.decision.capacity import SETTLE_SECONDS
from promoter.decision.decide import decide
from promoter.decision.observation import AutoscalerView
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import AT_REST, OWNER, ROLLING_OUT, document, fakes_for, in_first_step
from unit.promoter.test_decide import NOW, SPEC, after, observe, rollout

LOOSE = AutoscalerView("scoring", scale_in_disabled=False, held=False, policy="Max")
HELD = AutoscalerView("scoring", scale_in_disabled=True, held=True, policy="Max")
OWN = AutoscalerView("scoring", scale_in_disabled=True, held=False, policy="Disabled")
QUOTA = 'pods "scoring-canary-x" is forbidden: exceeded quota: few'


def changes_of(state: State, *autoscalers: AutoscalerView) -> list[object]:
    """Return what is done about these autoscalers."""
    found = decide(SPEC, 1, state, observe(state, autoscalers=autoscalers), NOW)
    return [action for action in found.actions if isinstance(action, DisableScaleIn | RestoreScaleIn)]


@pytest.mark.parametrize("phase", sorted(set(Phase) - RESTING))
def test_no_autoscaler_scales_in_during_a_rollout(phase: Phase) -> None:
    state = rollout(phase)
    assert changes_of(state, LOOSE) == [DisableScaleIn("scoring", "Max")]
    assert changes_of(state, HELD, OWN) == []


def test_a_policy_that_was_set_in_mid_rollout_is_recorded_and_disabled_again() -> None:
    state = rollout(Phase.PROGRESSING)
    changed = AutoscalerView("scoring", scale_in_disabled=False, held=True, policy="Min")
    assert changes_of(state, changed) == [DisableScaleIn("scoring", "Min")]


def test_autoscalers_are_restored_once_the_load_was_measured_without_the_canary() -> None:
    at_rest = rollout(Phase.IDLE, stable_version="2", canary_version=None, weight=0)
    early = at_rest.model_copy(update={"phase_started_at": NOW - SETTLE_SECONDS + 1})
    late = at_rest.model_copy(update={"phase_started_at": NOW - SETTLE_SECONDS})
    assert changes_of(early, HELD) == []
    assert changes_of(late, HELD, OWN, LOOSE) == [RestoreScaleIn("scoring", "Max")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"autoscalers": (LOOSE, HELD)}, "HorizontalPodAutoscaler scoring may still scale in"),
     ({"autoscalers_error": "no permission to list"}, "no permission to list")],
)  # fmt: skip
def test_a_canary_waits_for_requests_until_no_autoscaler_scales_in(changes: dict[str, Any], words: str) -> None:
    state = rollout(Phase.STARTING, phase_started_at=NOW - 5000)
    found = after(state, observe(state, **changes))
    assert (found.phase, found.weight) == (Phase.STARTING, 0)
    assert words in found.message
    assert after(state, observe(state, autoscalers=(HELD,))).phase == Phase.PROGRESSING


def test_a_rollout_in_progress_is_judged_though_autoscalers_cannot_be_listed_and_the_condition_says_so() -> None:
    state = rollout(Phase.PROGRESSING)
    found = after(state, observe(state, ok=100.0, errors=400.0, autoscalers_error="no permission"))
    found = after(found, observe(found, ok=100.0, errors=800.0, autoscalers_error="no permission"))
    condition = found.condition("Degraded")
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == ("True", "AutoscalersForbidden", "no permission")
    assert found.failures == 1


async def test_the_actions_are_carried_out() -> None:
    fakes = fakes_for(replace(ROLLING_OUT, autoscalers=(LOOSE,)))
    promotion = Promotion(OWNER, document(), in_first_step())
    await reconcile(fakes.adapters, promotion)
    assert "disable_scale_in scoring Max" in fakes.cluster.calls
    fakes = fakes_for(replace(AT_REST, autoscalers=(HELD,)))
    fakes.registry.version = "1"
    at_rest = State(phase=Phase.IDLE, stable_version="1", desired_version="1", target="scoring")
    await reconcile(fakes.adapters, Promotion(OWNER, document(), at_rest))
    assert "restore_scale_in bank scoring Max" in fakes.cluster.calls
