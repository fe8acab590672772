"""Retraining: when it is due, what holds it, what becomes of it, and who is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from promoter.api.resource import Auc
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import Spec
from promoter.api.status import DriftState, FailedVersion, HistoryEntry, Phase, State, Training
from promoter.decision.actions import StartTraining
from promoter.decision.decide import Decision, decide
from promoter.decision.observation import DriftReport, DriftView, Observation, RegistryView, StableView, TrainingView
from promoter.decision.timeline import Origin, Turn, note_changes

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
NOW = 1_800_000_000.0
REPORT = DriftReport("1", NOW - HOUR, NOW - HOUR, "drifted", "income is not what it was")
STABLE = StableView(True, "1", True, "t", wanted=1, available=1)
IDLE = State(phase=Phase.IDLE, stable_version="1", desired_version="1", target="scoring")


def spec_with(suspend: bool = False, **retraining: Any) -> Spec:
    return parse_spec({"model": {"name": "credit-risk"}, "suspend": suspend, "retraining": retraining})


ON_DRIFT = spec_with(drift={"duration": "2d"}, cooldown="1d", maxPerWeek=2)


def auc(value: float) -> Auc:
    return Auc(value=value, lower=value - 0.02, upper=value + 0.02, loans=900)


@dataclass
class Loop:
    """A promotion with drift, and a cluster in which Jobs are what the test says."""

    spec: Spec = ON_DRIFT
    state: State = IDLE
    now: float = NOW
    desired: str = "1"
    verdict: Any = "drifted"
    allowed: bool = True
    auc: Auc | None = None
    expected_auc: Auc | None = None
    new_outcomes: int | None = None
    job: TrainingView = field(default_factory=lambda: TrainingView(found=False))
    started: list[str] = field(default_factory=list)
    last: Decision | None = None

    def __post_init__(self) -> None:
        """Begin with drift that has lasted for two days."""
        known = DriftState(version="1", until=self.now - HOUR, created_at=self.now, verdict="drifted", headline="h",
                           drifted_since=self.now - HOUR - 2 * DAY)  # fmt: skip
        self.state = self.state.model_copy(update={"drift": known})

    def turn(self, seconds: float = 10) -> State:
        """Observe the newest report, an hour old, and decide; the state goes through its document."""
        self.now += seconds
        report = replace(REPORT, verdict=self.verdict, until=self.now - HOUR, realized_auc=self.auc,
                         expected_auc=self.expected_auc, new_outcomes=self.new_outcomes)  # fmt: skip
        observed = Observation(RegistryView(self.desired), STABLE, drift=DriftView(report),
                               training=self.job if self.allowed else None)  # fmt: skip
        self.last = decide(self.spec, 1, self.state, observed, self.now)
        self.state = State.model_validate(self.last.state.to_document())
        for action in self.last.actions:
            if isinstance(action, StartTraining) and action.job not in self.started:
                self.started.append(action.job)
        return self.state

    def ends(self, outcome: Any, message: str = "it ended") -> State:
        """Let the Job be seen, end, and be followed."""
        self.job = TrainingView(found=True)
        self.turn()
        self.job = TrainingView(found=True, outcome=outcome, message=message)
        state = self.turn()
        self.job = TrainingView()
        return state

    @property
    def condition(self) -> tuple[str, str, str]:
        found = self.state.condition("Retraining")
        assert found
        return found.status, found.reason, found.message

    @property
    def newest(self) -> Training:
        assert self.state.retraining
        return self.state.retraining.trainings[0]


def test_drift_that_has_lasted_long_enough_starts_a_training_with_its_reason() -> None:
    loop = Loop()
    loop.turn()
    assert loop.last
    (action,) = [action for action in loop.last.actions if isinstance(action, StartTraining)]
    assert action.cron_job == "retraining"
    assert action.max_seconds == 2 * HOUR
    assert action.reason == "drift for 2 days: income is not what it was"
    assert loop.condition[:2] == ("True", "Training")
    assert (loop.newest.trigger, loop.newest.reason, loop.newest.outcome) == ("Drift", action.reason, None)
    assert loop.state.pending_events[-1].reason == "TrainingStarted"


@pytest.mark.parametrize("verdict", ["unclear", "steady"])
def test_no_drift_trains_nothing(verdict: Any) -> None:
    loop = Loop(verdict=verdict)
    loop.turn()
    assert loop.condition == ("False", "NotDue", "no drift")
    assert not loop.started


def test_drift_that_is_too_young_is_waited_for() -> None:
    loop = Loop(spec_with(drift={"duration": "5d"}))
    loop.turn()
    assert loop.condition == ("False", "NotDue", "drift for 2 days of 5 days")


def test_drift_of_a_version_that_is_no_longer_stable_trains_nothing() -> None:
    loop = Loop(state=IDLE.model_copy(update={"stable_version": "2", "desired_version": "2"}), desired="2")
    loop.turn()
    assert loop.condition[1] == "NotDue"


def test_the_interval_begins_with_the_last_training_or_promotion() -> None:
    promoted = HistoryEntry(version="1", outcome="Promoted", reason="Promoted", at=NOW - 29 * DAY)
    loop = Loop(spec_with(interval="30d"), IDLE.model_copy(update={"history": (promoted,)}), verdict="steady")
    loop.turn()
    assert loop.condition[1] == "NotDue", "it begins when the operator sees it"
    loop.turn(29 * DAY)
    assert not loop.started
    loop.turn(2 * DAY)
    assert loop.newest.trigger == "Interval"
    loop.ends("Succeeded")
    loop.turn(29 * DAY)
    assert len(loop.started) == 1
    loop.turn(2 * DAY)
    assert len(loop.started) == 2


@pytest.mark.parametrize(
    ("realized", "words"),
    [(None, "no realized AUC of the stable version yet"),
     (auc(0.71), "realized AUC 0.710 (0.690 to 0.730) of 900 loans is not surely below 0.72")],
)  # fmt: skip
def test_performance_that_is_unknown_or_may_be_good_enough_trains_nothing(realized: Auc | None, words: str) -> None:
    loop = Loop(spec_with(performance={"minAuc": 0.72}), auc=realized)
    loop.turn()
    assert loop.condition == ("False", "NotDue", words)
    assert not loop.started


def test_performance_that_is_surely_below_its_limit_trains() -> None:
    loop = Loop(spec_with(performance={"minAuc": 0.72}), auc=auc(0.69), verdict="steady")
    loop.turn()
    assert (loop.newest.trigger, loop.newest.reason) == (
        "Performance", "realized AUC 0.690 (0.670 to 0.710) of 900 loans < 0.72")  # fmt: skip


def test_an_expected_auc_that_is_surely_below_its_limit_trains_without_any_outcome() -> None:
    spec = spec_with(performance={"minAuc": 0.72, "minExpectedAuc": 0.7})
    loop = Loop(spec, expected_auc=auc(0.69), verdict="steady")
    loop.turn()
    known = "expected AUC 0.690 (0.670 to 0.710) of 900 loans is not surely below 0.7"
    assert loop.condition[2] == f"no realized AUC of the stable version yet; {known}"
    loop.expected_auc = auc(0.67)
    loop.turn()
    assert (loop.newest.trigger, loop.newest.reason) == (
        "Performance", "expected AUC 0.670 (0.650 to 0.690) of 900 loans < 0.7")  # fmt: skip


def test_enough_new_outcomes_train() -> None:
    loop = Loop(spec_with(outcomes={"minNew": 1000}), verdict="steady")
    loop.turn()
    assert loop.condition == ("False", "NotDue", "the number of new outcomes is not known")
    loop.new_outcomes = 999
    loop.turn()
    assert loop.condition == ("False", "NotDue", "999 of 1000 new outcomes")
    loop.new_outcomes = 1000
    loop.turn()
    assert (loop.newest.trigger, loop.newest.reason) == (
        "Outcomes", "1000 matured loans have an outcome that version 1 did not learn from")  # fmt: skip


def test_new_outcomes_of_another_version_train_nothing() -> None:
    loop = Loop(spec_with(outcomes={"minNew": 1000}), IDLE.model_copy(update={"stable_version": "2"}), desired="2",
                new_outcomes=5000)  # fmt: skip
    loop.turn()
    assert loop.condition[2] == "the number of new outcomes is not known"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spec": spec_with(suspend=True, drift={"duration": "1d"})}, "Suspended"),
        ({"desired": "2"}, "RolloutInProgress"),
        ({"state": IDLE.model_copy(update={"phase": Phase.FINISHING, "canary_version": "1",
                                           "phase_started_at": NOW + 10})}, "RolloutInProgress"),
        ({"allowed": False}, "NotAllowed"),
    ],
)  # fmt: skip
def test_a_training_that_is_due_is_held(change: dict[str, Any], reason: str) -> None:
    loop = Loop(**change)
    loop.turn()
    assert loop.condition[:2] == ("False", reason)
    assert not loop.started


def test_a_failed_version_holds_nothing() -> None:
    failed = FailedVersion(version="2", reason="AnalysisFailed", message="m", at=NOW - DAY)
    state = IDLE.model_copy(update={"phase": Phase.FAILED, "desired_version": "2", "failed_versions": (failed,)})
    loop = Loop(state=state, desired="2")
    loop.turn()
    assert len(loop.started) == 1


def test_a_killed_operator_starts_the_same_job_again_until_it_is_seen() -> None:
    loop = Loop()
    for _ in range(3):
        loop.turn()
        assert loop.last
        assert [action for action in loop.last.actions if isinstance(action, StartTraining)]
    assert len(loop.started) == 1
    loop.job = TrainingView(found=True)
    loop.turn()
    assert loop.last
    assert not [action for action in loop.last.actions if isinstance(action, StartTraining)]
    assert loop.newest.seen


def test_nothing_changes_while_it_trains() -> None:
    loop = Loop(job=TrainingView(found=True))
    loop.turn()
    state = loop.turn()
    loop.job = TrainingView()
    again = loop.turn()
    assert (again.retraining, again.condition("Retraining")) == (state.retraining, state.condition("Retraining"))


def test_a_job_that_was_deleted_failed_and_one_that_could_not_be_created_says_why() -> None:
    loop = Loop(job=TrainingView(found=True))
    loop.turn()
    loop.turn()
    loop.job = TrainingView(found=False)
    loop.turn()
    assert (loop.newest.outcome, loop.newest.message) == ("Failed", "the Job was deleted")

    refused = Loop()
    state = refused.turn()
    assert state.retraining
    training = state.retraining.trainings[0].model_copy(update={"start_error": "403 no"})
    changed = state.retraining.model_copy(update={"trainings": (training,)})
    refused.state = state.model_copy(update={"retraining": changed})
    refused.turn()
    assert refused.condition[:2] == ("False", "BackingOff")
    assert (refused.newest.outcome, refused.newest.message) == ("Failed", "403 no")
    assert refused.state.pending_events[-1].reason == "TrainingFailed"


def test_after_a_training_there_is_a_pause_though_drift_goes_on() -> None:
    loop = Loop()
    loop.turn()
    loop.ends("Succeeded")
    assert loop.condition[1] == "CoolingDown"
    loop.turn(DAY - MINUTE)
    assert len(loop.started) == 1
    loop.turn(2 * MINUTE)
    assert len(loop.started) == 2


def test_each_failure_in_a_row_doubles_the_pause_and_a_success_ends_that() -> None:
    loop = Loop(spec_with(drift={"duration": "0s"}, cooldown="1h", maxPerWeek=20))
    pauses = []
    for outcome in ("Failed", "Refused", "Failed", "Succeeded", "Failed"):
        loop.turn()
        loop.ends(outcome)
        ended, count = loop.now, len(loop.started)
        while len(loop.started) == count:
            loop.turn(MINUTE)
        pauses.append(round((loop.now - ended) / HOUR))
    assert pauses == [2, 4, 8, 1, 2]


def test_a_training_that_always_fails_at_once_is_no_hot_loop() -> None:
    loop = Loop(spec_with(drift={"duration": "0s"}, cooldown="0s", maxPerWeek=20))
    for _ in range(int(DAY / 60)):
        loop.turn(MINUTE)
        if loop.newest.outcome is None:
            loop.ends("Failed")
    assert len(loop.started) < 12


def test_a_week_has_no_more_trainings_than_allowed() -> None:
    loop = Loop(spec_with(drift={"duration": "0s"}, cooldown="1m", maxPerWeek=3))
    times = []
    while loop.now < NOW + 21 * DAY:
        loop.turn(HOUR)
        if loop.newest.outcome is None:
            times.append(loop.now)
            loop.ends("Succeeded")
    assert len(times) in {9, 10}
    assert all(later - earlier > 7 * DAY - 1 for earlier, later in zip(times, times[3:], strict=False))
    assert loop.condition[1] == "WeeklyLimit"


def test_a_refused_model_is_told_and_the_stable_version_serves_on() -> None:
    loop = Loop()
    loop.turn()
    before = loop.state
    loop.ends("Refused", "a gate refused the model")
    assert loop.condition[:2] == ("False", "BackingOff")
    assert "a gate refused the model" in loop.condition[2]
    assert (loop.state.phase, loop.state.stable_version) == (Phase.IDLE, "1")
    event = loop.state.pending_events[-1]
    assert (event.reason, event.type) == ("TrainingRefused", "Warning")
    assert before.stable_version == loop.state.stable_version


def test_the_timeline_has_beginning_and_end_with_the_reason() -> None:
    loop, origin = Loop(), Origin("bank/loans/u", "credit-risk")
    before = loop.state
    started = note_changes(before, Turn(loop.turn()), origin, loop.now)
    ended = note_changes(started, Turn(loop.ends("Refused", "gate")), origin, loop.now)
    kinds = {entry.kind: entry.message for entry in (*started.timeline.pending, *ended.timeline.pending)}
    assert kinds["TrainingStarted"].endswith("drift for 2 days: income is not what it was")
    assert kinds["TrainingEnded"].endswith("Refused: gate")


def test_without_the_section_nothing_starts_and_what_ran_is_still_followed() -> None:
    loop = Loop()
    loop.turn()
    loop.spec = parse_spec({"model": {"name": "credit-risk"}})
    loop.ends("Succeeded")
    assert loop.newest.outcome == "Succeeded"
    assert loop.state.condition("Retraining") is None
    assert Loop(loop.spec).turn().retraining is None


def test_a_training_that_was_not_created_before_the_section_went_is_given_up() -> None:
    loop = Loop()
    loop.turn()
    loop.spec = parse_spec({"model": {"name": "credit-risk"}})
    loop.turn()
    assert loop.newest.outcome == "Failed"


def test_retraining_without_a_trigger_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="set at least one of drift, performance, outcomes and interval"):
        spec_with(cooldown="1d")
    with pytest.raises(InvalidSpecError, match="performance: set minAuc or minExpectedAuc"):
        spec_with(performance={})
