"""What people are told of a rollout, a pause and a problem: everything once, with its numbers, and nothing else."""

from __future__ import annotations

from typing import Literal, get_args

import pytest

from promoter.api.resource import Owner
from promoter.api.spec import Spec
from promoter.api.status import (
    Condition,
    HistoryEntry,
    Notification,
    NotificationKind,
    Phase,
    State,
)
from promoter.decision.notifications import (
    PENDING_KEPT,
    PROBLEM_GRACE_SECONDS,
    Subject,
    Subscribers,
    note_notifications,
    waits_for_person,
)
from promoter.notifications.text import Wording
from unit.promoter.rollouts import Rollouts
from unit.promoter.test_decide_simulated import spec_with

ALL: Subscribers = dict.fromkeys(get_args(NotificationKind), ("slack", "email"))
NOW = 1_767_225_600.0

OFFICERS = {"groups": ["officers"]}


class Announced(Rollouts):
    """Rollouts whose notifications nobody takes."""

    def turn(self) -> None:
        before = self.state
        super().turn()
        subject = Subject("bank/loans/u-1", "credit-risk", self.spec)
        self.state = note_notifications(before, self.state, subject, ALL, self.environment.now)
        self.restart()

    @property
    def told(self) -> list[Notification]:
        return list(self.state.notifications.pending)


def kinds(told: list[Notification]) -> list[str]:
    return [entry.kind for entry in told]


def test_a_promotion_is_announced_when_it_starts_waits_and_ends_but_not_each_weight() -> None:
    rollouts = Announced()
    assert rollouts.told == []
    rollouts.promote("2")
    assert kinds(rollouts.told) == ["RolloutStarted", "WaitingForPerson", "Promoted"]
    started, waiting, promoted = rollouts.told
    assert (started.version, started.stable_version) == ("2", "1")
    assert (waiting.reason, waiting.message) == ("Paused", "step 2/3: paused until resumed")
    assert (promoted.version, promoted.stable_version, promoted.message) == ("2", "2", "it replaces version 1")
    assert promoted.judgment
    assert promoted.judgment.verdict == "Successful"
    assert len({entry.id for entry in rollouts.told}) == 3
    assert {entry.to for entry in rollouts.told} == {("slack", "email")}


def test_a_rollback_is_told_with_its_numbers_and_not_as_a_problem_too() -> None:
    rollouts = Announced()
    rollouts.fail("3")
    for _ in range(20):
        rollouts.turn()
    assert kinds(rollouts.told) == ["RolloutStarted", "WaitingForPerson", "RolledBack"]
    ended = rollouts.told[-1]
    assert (ended.version, ended.stable_version, ended.reason) == ("3", "1", "AnalysisFailed")
    assert "error rate" in ended.message
    assert ended.judgment
    assert next(result for result in ended.judgment.results if result.verdict == "Failed").value


def test_a_rollout_whose_pointer_moves_is_stopped_and_the_next_one_starts() -> None:
    rollouts = Announced()
    rollouts.start("2")
    rollouts.environment.desired = "3"
    rollouts.turn()
    rollouts.until(Phase.IDLE)
    rollouts.turn()
    rollouts.until(Phase.PAUSED)
    assert kinds(rollouts.told) == [
        "RolloutStarted", "WaitingForPerson", "Stopped", "RolloutStarted", "WaitingForPerson",
    ]  # fmt: skip
    stopped = rollouts.told[2]
    assert (stopped.version, stopped.reason) == ("2", "Superseded")
    assert stopped.judgment is None


def test_a_kind_that_nobody_wants_is_not_noted() -> None:
    after = State(phase=Phase.STARTING, canary_version="2", stable_version="1")
    idle = State(phase=Phase.IDLE, stable_version="1")
    subject = Subject("bank/loans/u-1", "credit-risk", None)
    told = note_notifications(idle, after, subject, {"Promoted": ("slack",)}, NOW)
    assert told == after
    (entry,) = note_notifications(idle, after, subject, {"RolloutStarted": ("slack",)}, NOW).notifications.pending
    assert entry.to == ("slack",)


@pytest.mark.parametrize(
    ("steps", "index", "for_data", "waits"),
    [
        ([{"weight": 5, "duration": "5m"}, {"pause": {}}], 1, False, True),
        ([{"weight": 5, "duration": "5m"}, {"pause": {"duration": "5m"}}], 1, False, False),
        ([{"weight": 5, "duration": "5m"}, {"pause": {"duration": "5m"}}], 0, True, True),
        ([{"weight": 5, "duration": "5m"}, {"pause": {"duration": "5m", "approvals": OFFICERS}}], 1, False, True),
        ([{"weight": 5, "duration": "5m"}], 3, False, False),
    ],
)
def test_a_timed_pause_waits_for_nobody(
    steps: list[dict[str, object]], index: int, for_data: bool, waits: bool
) -> None:
    state = State(phase=Phase.PAUSED, step_index=index, paused_for_data=for_data)
    spec: Spec = spec_with(steps)
    assert waits_for_person(spec, state) == waits
    assert not waits_for_person(spec, state.model_copy(update={"phase": Phase.PROGRESSING}))


def test_whoever_may_approve_is_told_that_approvals_are_missing_and_how_to_give_one() -> None:
    spec = spec_with([{"weight": 5, "duration": "5m"}, {"pause": {"approvals": OFFICERS}}])
    before = State(phase=Phase.PROGRESSING, canary_version="2", stable_version="1", step="1/2")
    after = before.model_copy(update={"phase": Phase.PAUSED, "step_index": 1, "step": "2/2"})
    subject = Subject("bank/loans/u-1", "credit-risk", spec)
    told = note_notifications(before, after, subject, {"WaitingForPerson": ("slack",)}, NOW)
    (entry,) = told.notifications.pending
    assert entry.reason == "ApprovalsNeeded"
    assert "step 2/2: waiting for approvals: 0 of 1 approvals by members of officers" in entry.message
    details = Wording().text(Owner("bank", "loans", "u-1"), entry).details
    assert "to go on: kubectl promotion approve loans -n bank" in details


def degraded(
    state: State, status: Literal["True", "False"], reason: str, now: float, message: str = "it is down"
) -> State:
    """Return the state after a turn that ends with this condition."""
    condition = Condition(type="Degraded", status=status, reason=reason, message=message, last_transition_time="")
    after = state.model_copy(update={"conditions": (condition,)})
    noted = note_notifications(state, after, Subject("p", "credit-risk", None), ALL, now)
    return State.model_validate(noted.to_document())


def test_a_problem_is_told_once_it_has_lasted_and_once_it_is_over() -> None:
    state = degraded(State(), "False", "AsExpected", NOW)
    state = degraded(state, "True", "RegistryUnreachable", NOW)
    state = degraded(state, "True", "RegistryUnreachable", NOW + PROBLEM_GRACE_SECONDS - 1)
    assert not state.notifications.pending
    for later in (0, 10, 500):
        state = degraded(state, "True", "RegistryUnreachable", NOW + PROBLEM_GRACE_SECONDS + later, f"since {later}")
    state = degraded(state, "False", "AsExpected", NOW + 720)
    state = degraded(state, "False", "AsExpected", NOW + 730)
    began, ended = state.notifications.pending
    assert (began.kind, began.reason, began.message) == ("Degraded", "RegistryUnreachable", "since 0")
    assert (ended.kind, ended.message) == ("Recovered", "RegistryUnreachable is over, after 12 min")


def test_a_short_problem_is_not_told_and_neither_is_its_end() -> None:
    state = degraded(State(), "True", "Retrying", NOW)
    state = degraded(state, "False", "AsExpected", NOW + 5)
    assert degraded(state, "True", "Retrying", NOW + 40).notifications.pending == ()


def test_another_problem_is_told_too() -> None:
    state = degraded(State(), "True", "RegistryUnreachable", NOW)
    state = degraded(state, "True", "RegistryUnreachable", NOW + 40)
    state = degraded(state, "True", "CapacityLow", NOW + 50)
    state = degraded(state, "True", "CapacityLow", NOW + 90)
    assert [entry.reason for entry in state.notifications.pending] == ["RegistryUnreachable", "CapacityLow"]


def test_too_many_that_nobody_takes_cost_the_oldest() -> None:
    state = State(phase=Phase.IDLE)
    for number in range(PENDING_KEPT + 5):
        ended = HistoryEntry(version=str(number), outcome="Stopped", reason="Superseded", at=NOW + number)
        after = state.model_copy(update={"history": (ended,), "message": "x" * 5000})
        state = note_notifications(state, after, Subject("p", "m", None), ALL, NOW)
    told = state.notifications.pending
    assert [entry.version for entry in told] == [str(number) for number in range(5, PENDING_KEPT + 5)]
    assert len({entry.id for entry in told}) == PENDING_KEPT, "although all at one moment"
    assert len(told[0].message) == 1000
