"""What a verdict means for the rollout: at once or after some, and what happens without enough evidence."""

from __future__ import annotations

from typing import Any

import pytest

from promoter.api.status import Phase, RouteState, State, Window
from promoter.decision.observation import Observation, PodReading
from unit.promoter.test_decide import NOW, after, observe, rollout, spec_with

SHIFT = {"metrics": [{"type": "ErrorRate"}, {"type": "DecisionShift"}]}
WORSE = {"pair/decision/approve_to_decline": 200.0, "pair/decision/both_approve": 300.0, "canary/outcome/ok": 500.0}
ALIKE = {"pair/decision/both_approve": 500.0, "canary/outcome/ok": 500.0}


def counting(state: State, counters: dict[str, float]) -> Observation:
    return observe(state, pods=(PodReading("pod-0", NOW - 1, 5, counters),))


def test_a_model_that_decides_worse_is_rolled_back_at_its_first_failed_verdict() -> None:
    state = rollout(Phase.PROGRESSING)
    found = after(state, counting(state, WORSE), spec_with(analysis=SHIFT))
    assert found.phase == Phase.ROLLING_BACK
    assert "decision shift 0.400" in found.message


def test_errors_come_in_bursts_and_are_judged_twice() -> None:
    state = rollout(Phase.PROGRESSING)
    first = after(state, observe(state, ok=100, errors=50))
    assert (first.phase, first.failures) == (Phase.PROGRESSING, 1)
    again = first.model_copy(update={"analyzed_at": NOW - 20})
    assert after(again, observe(again, ok=2000, errors=50)).phase == Phase.PROGRESSING
    assert after(again, observe(again, ok=100, errors=60)).phase == Phase.ROLLING_BACK


def test_pairs_of_one_step_are_evidence_in_the_next() -> None:
    spec = spec_with(analysis=SHIFT, steps=[{"weight": 10, "duration": "60s"}, {"weight": 50, "duration": "60s"}])
    state = rollout(Phase.PROGRESSING, step="1/2")
    entered = after(state, counting(state, ALIKE), spec)
    assert (entered.step, entered.weight) == ("2/2", 50)
    seen = entered.model_copy(update={"route": entered.route.model_copy(update={"effective_at": None})})
    pod = PodReading("pod-0", NOW - 1, entered.route.generation, {key: 2 * value for key, value in ALIKE.items()})
    begun = after(seen, observe(seen, pods=(pod,)), spec)
    assert begun.step_started_at == NOW
    assert begun.window.totals == {"pair/decision/both_approve": 1000.0}


@pytest.mark.parametrize(
    ("started", "choice", "phase", "words"),
    [
        (NOW - 90, "Wait", Phase.PROGRESSING, "waiting for data"),
        (NOW - 90, "Pause", Phase.PROGRESSING, "waiting for data"),
        (NOW - 601, "Wait", Phase.PAUSED, "paused: Inconclusive"),
        (NOW - 601, "Pause", Phase.PAUSED, "paused: Inconclusive"),
        (NOW - 601, "Proceed", Phase.PROGRESSING, "weight 10 %"),
    ],
)
def test_weights_that_grow_wait_for_evidence_until_their_longest_time_is_over(
    started: float, choice: str, phase: Phase, words: str
) -> None:
    spec = spec_with(auto={"minDuration": "4m", "maxDuration": "10m"}, analysis={**SHIFT, "onInsufficientData": choice})
    state = growing(steps_started_at=started)
    found = after(state, counting(state, {"canary/outcome/ok": 30.0}), spec)
    assert found.phase == phase
    assert words in found.message


def test_a_weight_grows_as_soon_as_the_evidence_allows_it() -> None:
    spec = spec_with(auto={"minDuration": "4m"}, analysis=SHIFT)
    state = growing()
    few = {"pair/decision/both_approve": 60.0, "canary/outcome/ok": 60.0}
    assert after(state, counting(state, few), spec).step == "2/4"
    assert after(growing(step_started_at=NOW - 30), counting(state, few), spec).step == "1/4"


def growing(**changes: Any) -> State:
    """Return a rollout at the first of the weights that grow, whose time is up."""
    return rollout(
        Phase.PROGRESSING, step="1/4", weight=5, window=Window(opened_at=NOW - 90),
        route=RouteState(generation=5, stable_version="1", canary_version="2", weight=5), **changes,
    )  # fmt: skip
