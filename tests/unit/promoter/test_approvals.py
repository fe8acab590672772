"""Approvals: different people of the right groups, for this version at this pause, and nothing in their place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.api.approvals import ApprovalSpec
from promoter.api.status import ApprovalsState, Phase, State
from promoter.decision.approvals import Person, refusal
from promoter.decision.decide import decide
from promoter.decision.observation import ApprovalsView, CanaryView, RegistryView
from promoter.decision.timeline import Origin, Turn, note_changes
from promoter.errors import RetryableError
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import OWNER, ROLLING_OUT, document, fakes_for
from unit.promoter.test_decide import NOW, after, observe, rollout, spec_with

OFFICERS, RISK = "credit-risk-officers", "model-risk"
ASKED = {"needed": 2, "groups": [OFFICERS, RISK]}
STEPS: list[dict[str, Any]] = [{"weight": 10, "duration": "60s"}, {"pause": {"approvals": ASKED}},
                               {"weight": 50, "duration": "60s"}]  # fmt: skip
SPEC = spec_with(steps=STEPS)
PAUSED_AT = NOW - 90


def paused(**changes: Any) -> State:
    """Return a state at the pause that asks for two approvals of version 2."""
    return rollout(Phase.PAUSED, **{"approvals": ApprovalsState(asked=SPEC.approvals), **changes})


def wanted(user: str = "", groups: tuple[str, ...] = (OFFICERS,), **changes: Any) -> ApprovalSpec:
    fields = {"promotion": "loans", "version": "2", "paused_at": PAUSED_AT, "user": user, "groups": groups, **changes}
    return ApprovalSpec.model_validate(fields)


def view(*found: ApprovalSpec, trained_by: tuple[str, ...] | None = ("trainer",), error: str = "") -> ApprovalsView:
    return ApprovalsView(tuple((NOW - 10 + number, spec) for number, spec in enumerate(found)), trained_by, error)


def approved(*found: ApprovalSpec, state: State | None = None, **observed: Any) -> State:
    state = state or paused()
    return after(state, observe(state, ok=500, approvals=view(*found, **observed)), SPEC)


def users(state: State) -> list[str]:
    return [entry.user for entry in state.approvals.given] if state.approvals else []


def test_a_pause_waits_until_two_people_have_approved() -> None:
    one = approved(wanted("alice"))
    assert (one.phase, one.step, users(one)) == (Phase.PAUSED, "2/3", ["alice"])
    assert "1 of 2 approvals by members of credit-risk-officers, model-risk (alice)" in one.message
    both = after(one, observe(one, approvals=view(wanted("alice"), wanted("bob", (RISK,), comment="looks good"))), SPEC)
    assert (both.phase, both.step, users(both)) == (Phase.PROGRESSING, "3/3", ["alice", "bob"])
    events = [event.message for event in both.pending_events if event.reason == "Approved"]
    assert events == ["step 2/3: alice approved version 2, 1 of 2",
                      'step 2/3: bob approved version 2 ("looks good"), 2 of 2']  # fmt: skip
    assert both.approvals
    assert [(entry.at, entry.comment, entry.groups) for entry in both.approvals.given] == [
        (NOW - 10, "", (OFFICERS,)), (NOW - 9, "looks good", (RISK,))]  # fmt: skip


@pytest.mark.parametrize(
    "second",
    [
        wanted("alice"),
        wanted("bob", ("interns",)),
        wanted("bob", version="1"),
        wanted("bob", paused_at=PAUSED_AT - 1),
        # Not admitted by the webhook, which fills the name in.
        wanted(""),
    ],
    ids=["the same person", "another group", "another version", "another pause", "nobody"],
)
def test_what_is_not_a_second_persons_approval_does_not_count(second: ApprovalSpec) -> None:
    found = approved(wanted("alice"), second)
    assert (found.phase, users(found)) == (Phase.PAUSED, ["alice"])


@pytest.mark.parametrize("trainer", ["carol", "Carol@bank.example", "oidc:carol", "https://login.example#carol"])
def test_whoever_trained_the_version_may_not_be_the_only_one_to_approve(trainer: str) -> None:
    spec = spec_with(steps=[STEPS[0], {"pause": {"approvals": {"needed": 1, "groups": [OFFICERS]}}}, STEPS[2]])
    state = paused(approvals=ApprovalsState(asked=spec.approvals))
    alone = after(state, observe(state, approvals=view(wanted("carol"), trained_by=(trainer,))), spec)
    assert alone.phase == Phase.PAUSED
    assert "carol trained the version and may not be the only one" in alone.message
    found = after(alone, observe(alone, approvals=view(wanted("carol"), wanted("bob"), trained_by=(trainer,))), spec)
    assert (found.phase, users(found)) == (Phase.PROGRESSING, ["carol", "bob"])


def test_nobody_goes_on_before_it_is_known_who_trained_the_version() -> None:
    found = approved(wanted("alice"), wanted("bob"), trained_by=None, error="the registry is down")
    assert found.phase == Phase.PAUSED
    assert "who trained the version is not known yet" in found.message
    assert "(the registry is down)" in found.message
    assert approved(state=found, trained_by=()).phase == Phase.PROGRESSING


@pytest.mark.parametrize("action", ["resume", "skip-step", "promote"])
def test_no_manual_action_takes_the_place_of_approvals(action: str) -> None:
    state = paused()
    found = after(state, observe(state, ok=500, action=action), SPEC)
    assert (found.phase, found.step) == (Phase.PAUSED, "2/3")
    (event,) = [event for event in found.pending_events if event.reason == "ActionIgnored"]
    assert "cannot take the place of approvals" in event.message


def test_a_promotion_is_refused_before_the_pause_too_and_a_step_may_be_skipped() -> None:
    state = rollout(Phase.PROGRESSING, approvals=ApprovalsState(asked=SPEC.approvals))
    refused = after(state, observe(state, action="promote"), SPEC)
    assert refused.phase == Phase.PROGRESSING
    assert "approvals are asked for at step 2" in refused.pending_events[-1].message
    assert after(state, observe(state, action="skip-step"), SPEC).phase == Phase.PAUSED


def test_after_the_approvals_the_rest_may_be_skipped() -> None:
    state = approved(wanted("alice"), wanted("bob"))
    state = state.model_copy(update={"step_started_at": NOW})
    assert after(state, observe(state, action="promote"), SPEC).phase == Phase.PROMOTING


def test_a_suspended_rollout_stays_after_its_approvals() -> None:
    spec, state = spec_with(steps=STEPS, suspend=True), paused()
    found = after(state, observe(state, approvals=view(wanted("alice"), wanted("bob"))), spec)
    assert (found.phase, found.message) == (Phase.PAUSED, "step 2/3 is approved; suspended")


def test_a_duration_is_kept_and_needs_a_successful_analysis() -> None:
    spec = spec_with(steps=[STEPS[0], {"pause": {"approvals": ASKED, "duration": "100s"}}, STEPS[2]])
    state = paused(approvals=ApprovalsState(asked=spec.approvals))
    early = after(state, observe(state, ok=500, approvals=view(wanted("alice"), wanted("bob"))), spec)
    assert (early.phase, early.message) == (Phase.PAUSED, "step 2/3: paused for 100 s")
    late = decide(spec, 1, early, observe(early, ok=900), NOW + 20).state
    assert late.phase == Phase.PROGRESSING


def test_a_version_that_fails_during_the_pause_is_rolled_back_and_its_approvals_do_not_count_again() -> None:
    state = approved(wanted("alice"))
    failed = after(state, observe(state, canary=CanaryView("2", "t", 1, 0, failure="crash loop")), SPEC)
    assert (failed.phase, failed.history[0].approved_by) == (Phase.ROLLING_BACK, ("alice",))
    again = after(failed.model_copy(update={"phase": Phase.FAILED}),
                  observe(failed, action="retry", canary=CanaryView()), SPEC)  # fmt: skip
    begun = after(again, observe(again, canary=CanaryView()), SPEC)
    assert (begun.phase, users(begun)) == (Phase.STARTING, [])


def test_a_rollout_that_starts_over_without_a_canary_pod_keeps_its_approvals() -> None:
    state = approved(wanted("alice"))
    lost = after(state, observe(state, canary=CanaryView("2", "t", 1, 0)), SPEC)
    assert (lost.phase, users(lost)) == (Phase.STARTING, ["alice"])


@pytest.mark.parametrize(
    "steps",
    [[STEPS[0], STEPS[2]], [STEPS[0], {"pause": {"approvals": {"needed": 1, "groups": [OFFICERS]}}}, STEPS[2]]],
    ids=["none", "fewer"],
)  # fmt: skip
def test_a_rollout_whose_spec_asks_for_other_approvals_starts_over(steps: list[dict[str, Any]]) -> None:
    spec, state = spec_with(steps=steps), approved(wanted("alice"))
    found = after(state, observe(state, approvals=view(wanted("alice"))), spec)
    assert (found.phase, found.history[0].reason) == (Phase.STOPPING, "ApprovalsChanged")
    rest = found.model_copy(update={"phase": Phase.IDLE})
    begun = after(rest, observe(rest, canary=CanaryView()), spec)
    assert (begun.phase, users(begun)) == (Phase.STARTING, [])
    assert after(begun, observe(begun), spec).phase == Phase.PROGRESSING


def test_a_rollout_that_began_without_approvals_starts_over_when_they_are_asked_for() -> None:
    state = rollout(Phase.PAUSED)
    found = after(state, observe(state, ok=500, approvals=view(wanted("alice"), wanted("bob"))), SPEC)
    assert (found.phase, found.history[0].reason) == (Phase.STOPPING, "ApprovalsChanged")


def test_a_pause_that_is_moved_behind_the_rollout_is_not_passed() -> None:
    spec = spec_with(steps=[STEPS[1], STEPS[0], STEPS[2]])
    state = rollout(Phase.PROGRESSING, step_index=2, step="3/3", weight=50,
                    approvals=ApprovalsState(asked=SPEC.approvals))  # fmt: skip
    found = after(state, observe(state, ok=500), spec)
    assert (found.phase, found.history[0].reason) == (Phase.STOPPING, "ApprovalsChanged")


def test_a_second_pause_asks_again() -> None:
    spec = spec_with(steps=[*STEPS, {"pause": {"approvals": ASKED}}])
    state = paused(step="2/4", approvals=ApprovalsState(asked=spec.approvals))
    once = after(state, observe(state, approvals=view(wanted("alice"), wanted("bob"))), spec)
    assert once.step == "3/4"
    second = rollout(Phase.PAUSED, step_index=3, step="4/4", weight=50, approvals=once.approvals,
                     phase_started_at=NOW - 5)  # fmt: skip
    found = after(second, observe(second, approvals=view(wanted("alice"), wanted("alice", paused_at=NOW - 5))), spec)
    assert "1 of 2 approvals" in found.message


def test_a_version_that_replaces_another_needs_approvals_of_its_own() -> None:
    state = approved(wanted("alice"))
    superseded = after(state, observe(state, registry=RegistryView("3")), SPEC)
    assert superseded.phase == Phase.STOPPING
    rest = superseded.model_copy(update={"phase": Phase.IDLE})
    assert users(after(rest, observe(rest, registry=RegistryView("3"), canary=CanaryView()), SPEC)) == []


@pytest.mark.parametrize(
    ("state", "spec", "person", "words"),
    [
        (paused(), wanted(), Person("alice", (OFFICERS, "other")), ""),
        (paused(), wanted(), Person("mallory", ("interns",)), "mallory is in none of the groups that may approve"),
        (paused(), wanted(version="3"), Person("alice", (OFFICERS,)), "version 3 is not being rolled out; version 2"),
        (paused(), wanted(paused_at=5.0), Person("alice", (OFFICERS,)), "began at 1970-01-01T02:45:10.000Z"),
        (rollout(Phase.PROGRESSING), wanted(), Person("alice", (OFFICERS,)), "nothing waits for approvals"),
        (paused(paused_for_data=True), wanted(), Person("alice", (OFFICERS,)), "nothing waits for approvals"),
        (approved(wanted("alice")), wanted(), Person("alice", (OFFICERS,)), "has approved version 2 at this pause"),
    ],
)  # fmt: skip
def test_an_approval_is_refused_with_the_reason(state: State, spec: ApprovalSpec, person: Person, words: str) -> None:
    found = refusal(SPEC, state, spec, person)
    assert words in found
    assert bool(found) == bool(words)


def test_the_timeline_names_who_approved_and_the_comment() -> None:
    state = paused()
    decided = approved(wanted("alice", comment="read the report"), wanted("bob"), state=state)
    noted = note_changes(state, Turn(decided), Origin("bank/loans/u-1", "credit-risk"), NOW).timeline.pending
    found = [(entry.moved_by, entry.message, entry.version) for entry in noted if entry.kind == "ActedManually"]
    assert found == [("alice", 'alice approved version 2 ("read the report")', "2"),
                     ("bob", "bob approved version 2", "2")]  # fmt: skip


def test_a_status_with_approvals_survives_storing() -> None:
    state = approved(wanted("alice", comment="fine"))
    assert State.model_validate(state.to_document()).approvals == state.approvals


class Given:
    """The approvals in the cluster."""

    def __init__(self, *found: ApprovalSpec) -> None:
        self.found = found
        self.fault: Exception | None = None

    async def approvals(self, owner: Any, version: str) -> tuple[tuple[float, ApprovalSpec], ...]:
        if self.fault:
            raise self.fault
        return tuple((1.0, spec) for spec in self.found if spec.version == version)


async def test_a_turn_reads_the_approvals_and_asks_once_who_trained_the_version() -> None:
    adapters, cluster, registry, _ = fakes_for(ROLLING_OUT)
    given = Given(wanted("alice"))
    state = paused(route=ROUTE, analyzed_at=None)
    promotion = Promotion(OWNER, document(steps=STEPS), state)
    registry.fault = RetryableError("the registry is down")
    await reconcile(replace(adapters, approvals=given), promotion)
    assert "(the registry is down)" in cluster.saved[-1]["message"]
    registry.fault = None
    await reconcile(replace(adapters, approvals=given), promotion)
    assert promotion.state.approvals
    assert (users(promotion.state), promotion.state.approvals.trained_by) == (["alice"], ("trainer",))
    given.fault = RetryableError("503")
    await reconcile(replace(adapters, approvals=given), promotion)
    assert users(promotion.state) == ["alice"], "what is counted stays"


async def test_an_operator_that_cannot_check_who_approves_does_nothing_and_says_so() -> None:
    adapters, cluster, *_ = fakes_for(ROLLING_OUT)
    state = paused(route=ROUTE)
    promotion = Promotion(OWNER, document(steps=STEPS), state)
    for _turn in range(2):
        await reconcile(adapters, promotion)
    degraded = promotion.state.condition("Degraded")
    assert degraded
    assert (degraded.status, degraded.reason) == ("True", "ApprovalsDisabled")
    assert "approvals.enabled" in degraded.message
    assert [event.reason for event in cluster.events] == ["ApprovalsDisabled"]
    assert "set_stable_version" not in cluster.calls

    # What was created meanwhile names a pause that has not been.
    await reconcile(replace(adapters, approvals=Given(wanted("alice"), wanted("bob"))), promotion)
    assert (promotion.state.phase, users(promotion.state)) == (Phase.PAUSED, [])
    assert promotion.state.phase_started_at != PAUSED_AT


ROUTE = rollout(Phase.PAUSED).route.model_copy(update={"generation": 1})
