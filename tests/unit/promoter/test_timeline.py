"""What the operator notes for the timeline, turn by turn, and how it bounds what waits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from conftest import REPOSITORY
from promoter.api.status import (
    AnalysisResult,
    InForce,
    MetricResult,
    Phase,
    RouteState,
    State,
    TimelineEntry,
    TimelineState,
    Verdict,
)
from promoter.decision.timeline import PENDING_KEPT, Origin, Turn, in_force_by, note_changes
from promoter.errors import RetryableError
from promoter.outbox import document_of
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import OWNER, ROLLING_OUT, document, fakes_for, in_first_step
from unit.promoter.rollouts import Rollouts
from unit.promoter.timelines import with_outbox

ORIGIN = Origin("bank/loans/u-1", "credit-risk", pointer_moved_by="training run 4f", acted_by="annotation by kubectl")
SCHEMA = Draft202012Validator(json.loads((REPOSITORY / "contracts/timeline-event.schema.json").read_text("utf-8")))
AT_REST = State(phase=Phase.IDLE, stable_version="1", desired_version="1",
                timeline=TimelineState(recorded=InForce(stable_version="1"), recorded_at=900.0))  # fmt: skip


def judged(verdict: Verdict, at: float = 990.0) -> AnalysisResult:
    result = MetricResult(name="ErrorRate", verdict=verdict, value=0.02, limit=0.01, samples=500, message="2 %")
    return AnalysisResult(verdict=verdict, at=at, results=(result,))


def noted(before: State, now: float = 1000.0, **decided: Any) -> tuple[TimelineEntry, ...]:
    decision = {name: decided.pop(name) for name in ("judgment", "performed") if name in decided}
    after = before.model_copy(update=decided)
    state = note_changes(before, Turn(after, **decision), ORIGIN, now)
    return state.timeline.pending[len(before.timeline.pending) :]


def progressing(**changes: Any) -> State:
    state = in_first_step(verified_weight=5, **changes)
    return state.model_copy(update={"timeline": TimelineState(recorded=in_force_by(state), recorded_at=900.0)})


def test_a_turn_that_changes_nothing_adds_nothing() -> None:
    assert noted(AT_REST) == noted(progressing()) == noted(AT_REST, message="waiting") == ()
    assert noted(State()) == (), "nothing is in force before the first version"


def test_the_timeline_begins_with_what_is_in_force() -> None:
    (event,) = noted(State(), phase=Phase.IDLE, stable_version="1", desired_version="1")
    assert (event.kind, event.stable_version, event.canary_version, event.moved_by) == ("Promoted", "1", None, None)
    # Whatever else is noted in the same turn.
    first, second = noted(State(), phase=Phase.IDLE, stable_version="1", desired_version="2")
    assert (first.kind, first.version, second.kind, second.version) == ("Promoted", "1", "PointerMoved", "2")
    # Also after a time in which nobody noted anything.
    (event,) = noted(AT_REST, stable_version="4", desired_version="1")
    assert (event.kind, event.stable_version, event.version) == ("Promoted", "4", "4")


def test_events_say_who_moved_the_pointer_and_who_acted() -> None:
    moved, started = noted(AT_REST, phase=Phase.STARTING, desired_version="2", canary_version="2", message="starting")
    assert (moved.kind, moved.version, moved.moved_by) == ("PointerMoved", "2", "training run 4f")
    assert (started.kind, started.moved_by, started.message) == ("RolloutStarted", "operator", "starting")
    (acted,) = noted(progressing(), performed="resume")
    assert (acted.kind, acted.version, acted.moved_by) == ("ActedManually", "2", "annotation by kubectl")


def test_a_weight_is_in_force_once_every_stable_pod_reported_it() -> None:
    before = progressing()
    assert noted(before, weight=25, route=before.route.model_copy(update={"weight": 25, "generation": 2})) == ()
    (event,) = noted(before, weight=25, verified_weight=25)
    assert (event.kind, event.canary_version, event.weight, event.mode) == ("WeightChanged", "2", 25, "live")
    assert event.message == "version 2 answers 25 % of the applicants"


def test_a_shadow_answers_nobody() -> None:
    route = RouteState(generation=1, stable_version="1", canary_version="2", weight=50, mode="shadow")
    (event,) = noted(AT_REST, phase=Phase.PROGRESSING, canary_version="2", route=route)
    assert (event.canary_version, event.weight, event.mode) == ("2", 0, "shadow")


def test_of_many_judgments_those_are_noted_that_say_something_new() -> None:
    good, bad = judged(Verdict.SUCCESSFUL), judged(Verdict.FAILED)
    before = progressing(analysis=good)
    again = judged(Verdict.SUCCESSFUL, at=1000.0)
    assert noted(before, judgment=again, analysis=again) == ()
    (event,) = noted(before, judgment=bad, analysis=bad)
    assert event.kind == "Judged"
    assert event.judgment == bad
    worse = judged(Verdict.FAILED, at=1000.0)
    assert [event.judgment for event in noted(progressing(analysis=bad), judgment=worse, analysis=worse)] == [worse]
    # The one that ended its step is no longer in the state.
    (event,) = noted(before, judgment=again, analysis=None, step="2/3", message="step 2/3: live weight 25 %")
    assert (event.kind, event.judgment, event.message) == ("Judged", again, "step 1/3 is over: step 2/3 begins")
    (event,) = noted(before, judgment=again, phase=Phase.PROMOTING, step="")
    assert event.message == "step 1/3 is over: the stable pods are updated to version 2"


@pytest.mark.parametrize("now", [1000.0, 100.0], ids=["", "after the clock was set back"])
def test_ids_are_unique_and_times_rise(now: float) -> None:
    before, seen = AT_REST, []
    for version in ("2", "3", "4"):
        after = before.model_copy(update={"desired_version": version})
        before = note_changes(before, Turn(after), ORIGIN, now)
        seen.append(before.timeline.pending[-1])
    assert len({event.id for event in seen}) == 3
    assert seen[0].at < seen[1].at < seen[2].at


def test_judgments_are_dropped_first_and_drops_are_counted() -> None:
    state = progressing()
    for number in range(3 * PENDING_KEPT):
        analysis = judged(Verdict.FAILED, at=1000.0 + number)
        weight = 5 + number % 2
        after = state.model_copy(update={"analysis": analysis, "verified_weight": weight})
        state = note_changes(state, Turn(after, analysis), ORIGIN, 1000.0 + number)
    kinds = [event.kind for event in state.timeline.pending]
    assert len(kinds) == PENDING_KEPT
    # An event of the last turn, too, is dropped before a change of what is in force.
    assert set(kinds) == {"WeightChanged"}
    assert state.timeline.dropped == 3 * PENDING_KEPT + 3 * PENDING_KEPT - 1 - PENDING_KEPT
    assert len(json.dumps(state.to_document())) < 200_000


def test_messages_are_short_enough_for_the_service() -> None:
    long = MetricResult(name="p99", verdict=Verdict.ERROR, limit=1.1, message="no answer; " * 1000)
    analysis = AnalysisResult(verdict=Verdict.ERROR, at=990.0, results=(long,))
    (event,) = noted(progressing(), judgment=analysis, analysis=analysis, message="waiting; " * 1000)
    assert event.message.startswith("waiting; ")
    assert not list(SCHEMA.iter_errors(document_of(event)))


async def test_nothing_is_noted_without_a_timeline() -> None:
    adapters, cluster, *_ = fakes_for(ROLLING_OUT)
    await reconcile(adapters, Promotion(OWNER, document("abort"), in_first_step()))
    assert cluster.saved[-1]["timeline"] == {"pending": [], "dropped": 0}


async def test_events_are_stored_with_the_decision_and_before_any_action() -> None:
    fakes = fakes_for(ROLLING_OUT)
    annotated = document("abort")
    annotated["metadata"]["managedFields"] = [
        {"manager": "helm", "fieldsV1": {"f:spec": {}}},
        {"manager": "kubectl-annotate",
         "fieldsV1": {"f:metadata": {"f:annotations": {"f:creditrisk.io/action": {}}}}},
    ]  # fmt: skip
    await reconcile(with_outbox(fakes.adapters), Promotion(OWNER, annotated, in_first_step()))
    saved = fakes.cluster.saved[0]
    assert fakes.cluster.calls[1] == "save_status"
    assert saved["phase"] == "RollingBack"
    events = saved["timeline"]["pending"]
    assert [event["kind"] for event in events] == ["Promoted", "ActedManually", "RolledBack"]
    assert events[1]["movedBy"] == "annotation by kubectl-annotate"
    assert events[2]["message"] == "Aborted: aborted manually"


async def test_who_moved_the_pointer_may_be_unknown() -> None:
    fakes = fakes_for()
    fakes.registry.fault = RetryableError("the registry is away again")
    state = State(phase=Phase.IDLE, stable_version="1", desired_version="1")
    promotion = Promotion(OWNER, document(), state)
    await reconcile(with_outbox(fakes.adapters), promotion)
    moved = promotion.state.timeline.pending[1]
    assert (moved.kind, moved.version, moved.moved_by) == ("PointerMoved", "2", None)


def test_every_event_of_a_promotion_a_rollback_and_an_abort_fits_the_contract() -> None:
    rollouts = Rollouts()
    rollouts.promote("2")
    rollouts.fail("3")
    rollouts.abort("4")
    events = rollouts.state.timeline.pending
    for event in events:
        assert not list(SCHEMA.iter_errors(document_of(event))), event
    assert {event.kind for event in events} == {
        "PointerMoved", "RolloutStarted", "WeightChanged", "Judged", "Promoted", "RolledBack", "ActedManually",
    }  # fmt: skip
    rolled_back = next(event for event in events if event.kind == "RolledBack")
    assert rolled_back.judgment
    assert rolled_back.judgment.verdict == Verdict.FAILED
    assert rolled_back.judgment.results[0].samples > 0
