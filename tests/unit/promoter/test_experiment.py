"""An Experiment: a fixed share for a fixed time, a report, and no promotion."""

from __future__ import annotations

import random
from typing import Any

from promoter.api.spec import Spec
from promoter.api.status import Outcome, Phase, Verdict
from promoter.decision.actions import SetStableVersion
from promoter.decision.experiment import SEGMENTS_REPORTED, describe, report_of
from promoter.decision.plan import PlannedStep, plan
from promoter.decision.totals import StepTotals
from unit.promoter.rollouts import Rollouts
from unit.promoter.test_decide_simulated import spec_with

SPEC = spec_with(strategy="Experiment", experiment={"weight": 40, "duration": "1m"})
PROMISE = "not repeated until requested (creditrisk.io/action: retry) or the pointer moves"
# Of both arms and of pairs: as the stable pods count them.
TOTALS = {
    "stable/outcome/ok": 1000.0, "canary/outcome/ok": 990.0, "canary/outcome/timeout": 10.0,
    "stable/decision/decline": 200.0, "stable/decision/approve": 800.0,
    "canary/decision/decline": 248.0, "canary/decision/approve": 742.0,
    "stable/seconds/0.01": 985.0, "stable/seconds/0.1": 1000.0, "canary/seconds/0.01": 900.0,
    "canary/seconds/0.1": 1000.0, "stable/score/0.2": 900.0, "stable/score/1.0": 1000.0, "canary/score/0.2": 850.0,
    "canary/score/1.0": 990.0, "pair/decision/both_approve": 730.0, "pair/decision/both_decline": 200.0,
    "pair/decision/approve_to_decline": 48.0, "pair/decision/decline_to_approve": 12.0, "pair/score/0.2/0.2": 850.0,
    "pair/score/0.2/1.0": 50.0, "pair/score/1.0/1.0": 90.0, "pair/rise": 12.0, "pair/fall": 2.1, "pair/squares": 0.4,
    "pair/segment/gender/female/both_approve": 400.0, "pair/segment/gender/female/approve_to_decline": 40.0,
    "pair/segment/gender/male/both_approve": 542.0, "pair/segment/gender/male/approve_to_decline": 8.0,
}  # fmt: skip


def experiment(spec: Spec = SPEC) -> Rollouts:
    found = Rollouts()
    found.spec = spec
    found.environment.desired = "2"
    found.turn()
    return found


def completed(spec: Spec = SPEC) -> Rollouts:
    found = experiment(spec)
    found.until(Phase.STOPPING)
    found.until(Phase.IDLE)
    found.turn()
    return found


def outcomes(found: Rollouts) -> list[tuple[str, Outcome, str]]:
    return [(entry.version, entry.outcome, entry.reason) for entry in found.state.history]


def test_the_plan_is_one_share_for_one_time_after_a_shadow_phase_if_there_is_one() -> None:
    assert plan(spec_with(strategy="Experiment")) == [PlannedStep("live", 50, 7 * 86400)]
    assert plan(spec_with(strategy="Experiment", shadow={})) == [
        PlannedStep("shadow", 100, 300), PlannedStep("live", 50, 7 * 86400),
    ]  # fmt: skip


def test_at_its_end_the_champion_answers_everybody_and_the_report_is_in_the_history() -> None:
    found = completed()
    environment, state = found.environment, found.state
    assert (state.stable_version, environment.stable_version, environment.canary_version) == ("1", "1", None)
    assert outcomes(found) == [("2", "Completed", "Completed")]
    assert found.in_force[-2:] == [("1", "2", 40, "live"), ("1", None, 0, "live")]
    report = state.history[0].report
    assert report is not None
    assert (report.champion_version, report.weight) == ("1", 40)
    assert report.started_at is not None
    assert state.history[0].at - report.started_at >= 60
    assert report.challenger.answers >= 20 * 30
    assert {measured.name for measured in report.measured} == {
        "change of the decline rate", "score PSI", "error rate"}  # fmt: skip
    assert not state.failed_versions
    assert state.message == f"the experiment with version 2 is complete; {PROMISE}"


def test_everybody_is_told_events_tags_timeline_and_conditions() -> None:
    found = experiment()
    kinds = []
    while found.state.phase != Phase.IDLE:
        found.turn()
        kinds += [entry for entry in found.state.timeline.pending if entry not in kinds]
    summary = "the experiment with version 2 is complete: "
    (ending,) = [entry for entry in kinds if entry.kind == "Completed"]
    assert ending.message.startswith(summary)
    assert ending.judgment is not None
    assert (ending.stable_version, ending.canary_version) == ("1", "2"), "in force until every pod applies weight 0"
    (event,) = [event for event in found.state.pending_events if event.reason == "ExperimentCompleted"]
    assert (event.type, event.message.startswith(summary)) == ("Normal", True)
    tags = found.state.pending_tags["2"]
    assert tags["creditrisk.io.rollout"] == "completed"
    assert tags["creditrisk.io.rollout-reason"].startswith(summary)
    conditions = {condition.type: (condition.status, condition.reason) for condition in found.state.conditions}
    assert conditions["Promoted"] == ("False", "ExperimentCompleted")
    assert conditions["Degraded"] == ("False", "AsExpected")


def test_its_time_ends_it_whatever_the_verdict_but_not_the_shadow_phase() -> None:
    silent = spec_with(strategy="Experiment", experiment={"duration": "1m"}, analysis={"minSamples": 100_000})
    found = completed(silent)
    assert found.state.analysis is not None
    assert found.state.analysis.verdict == Verdict.INCONCLUSIVE
    assert outcomes(found) == [("2", "Completed", "Completed")]
    shadowed = experiment(silent.model_copy(update={"shadow": spec_with(shadow={"duration": "3s"}).shadow}))
    for _ in range(60):
        shadowed.turn()
    assert (shadowed.state.phase, shadowed.state.route.mode) == (Phase.PROGRESSING, "shadow")
    assert "waiting for data" in shadowed.state.message


def test_a_version_that_is_worse_than_the_limits_ends_at_once() -> None:
    found = experiment()
    while found.state.verified_weight != 40:
        found.turn()
    found.good = False
    began = found.environment.now
    found.until(Phase.FAILED)
    assert found.environment.now - began < 60, "before its time is over"
    assert outcomes(found) == [("2", "RolledBack", "AnalysisFailed")]
    assert found.state.completed_version is None


def test_it_is_not_repeated_until_asked_or_until_the_pointer_moves() -> None:
    found = completed()
    for _ in range(20):
        found.turn()
    assert found.state.message.endswith(PROMISE)
    found.act("retry")
    found.until(Phase.PROGRESSING)
    found.until(Phase.STOPPING)
    assert len(found.state.history) == 2
    found.until(Phase.IDLE)
    found.environment.desired = "1"
    found.turn()
    assert (found.state.message, found.state.completed_version) == ("version 1 is stable", None)
    found.environment.desired = "2"
    found.turn()
    assert found.state.phase == Phase.STARTING


def test_the_version_is_rolled_out_by_another_strategy() -> None:
    found = completed()
    found.spec = spec_with([{"weight": 10, "duration": "3s"}])
    found.turn()
    found.until(Phase.STARTING)
    found.until(Phase.IDLE)
    assert found.state.stable_version == "2"


def test_nobody_can_promote_it_and_a_skipped_step_ends_it_with_its_report() -> None:
    found = experiment()
    while found.state.verified_weight != 40:
        found.turn()
    found.act("promote")
    (ignored,) = [event for event in found.state.pending_events if event.reason == "ActionIgnored"]
    assert ignored.message.endswith("only a version whose canary is ready can be promoted, and none by an Experiment")
    found.act("skip-step")
    assert (found.state.phase, found.state.history[0].outcome) == (Phase.STOPPING, "Completed")


def test_the_first_version_and_a_return_are_promoted_by_every_strategy() -> None:
    found = Rollouts()
    found.spec = spec_with([{"weight": 10, "duration": "3s"}])
    found.environment.desired = "2"
    found.turn()
    found.until(Phase.IDLE)
    found.spec = SPEC
    found.environment.desired = "1"
    found.turn()
    assert found.state.phase == Phase.PROMOTING


def report(totals: dict[str, float]) -> Any:
    return report_of(StepTotals(totals), champion_version="7", weight=50)


def test_a_report_has_both_arms_and_what_pairs_say_of_the_difference() -> None:
    found = report(TOTALS)
    assert (found.champion.answers, found.challenger.answers) == (1000, 990)
    assert (found.champion.decline_rate, found.challenger.decline_rate) == (0.2, 0.2505)
    assert found.champion.p99_milliseconds < found.challenger.p99_milliseconds
    values = {measured.name: (measured.value, measured.samples, measured.paired) for measured in found.measured}
    assert values["change of the decline rate"] == (0.03636, 990, True)
    assert values["change of the mean PD"] == (0.01, 990, True)
    assert values["error rate"] == (0.01, 1000, False)
    assert [(segment.name, segment.value) for segment in found.segments] == [
        ("gender/female", 0.09091), ("gender/male", 0.01455)]  # fmt: skip
    assert all(measured.lower < measured.value < measured.upper for measured in (*found.measured, *found.segments))


def test_without_pairs_the_arms_are_compared() -> None:
    found = report({key: value for key, value in TOTALS.items() if not key.startswith("pair/")})
    shift = next(measured for measured in found.measured if measured.name == "change of the decline rate")
    assert (shift.value, shift.paired) == (0.05051, False)
    assert not found.segments
    paired = next(measured for measured in report(TOTALS).measured if measured.name == shift.name)
    assert shift.upper - shift.lower > paired.upper - paired.lower, "other applicants say less"


def test_a_report_of_nothing_says_so() -> None:
    found = report({})
    assert (found.champion.decline_rate, found.challenger.p99_milliseconds, found.measured) == (None, None, ())
    assert describe(found) == "0 answers at 50 %, 0 by the champion"


def test_a_report_in_words_has_the_numbers() -> None:
    assert describe(report(TOTALS)).startswith(
        "990 answers at 50 %, 1000 by the champion; change of the decline rate 0.0364 ("
    )


def test_the_history_keeps_the_segments_that_fared_worst() -> None:
    many = {f"pair/segment/state/{n}/both_approve": 100.0 for n in range(30)}
    more = {f"pair/segment/state/{n}/approve_to_decline": float(n) for n in range(30)}
    found = report({**TOTALS, **many, **more})
    assert len(found.segments) == SEGMENTS_REPORTED
    assert found.segments[0].name == "state/29"
    assert found.segments_left_out == 32 - SEGMENTS_REPORTED


def test_the_bounds_of_a_change_that_is_none_contain_none() -> None:
    """One in 20 experiments may be wrong; bounds that hold at all looks are wrong less often at the last."""
    wrong, chance = 0, random.Random(1)
    for _ in range(200):
        flips = [chance.random() for _ in range(400)]
        up, down = sum(flip < 0.05 for flip in flips), sum(0.05 <= flip < 0.1 for flip in flips)
        totals = {"pair/decision/both_approve": 400.0 - up - down, "pair/decision/approve_to_decline": float(up),
                  "pair/decision/decline_to_approve": float(down)}  # fmt: skip
        (shift,) = report(totals).measured
        wrong += not shift.lower <= 0 <= shift.upper
    assert wrong <= 10


def test_an_experiment_sets_no_stable_version() -> None:
    found = experiment()
    actions: list[Any] = []
    environment_act = found.environment.act

    def record(action: Any) -> None:
        actions.append(action)
        environment_act(action)

    found.environment.act = record  # type: ignore[method-assign]
    found.until(Phase.STOPPING)
    found.until(Phase.IDLE)
    changed = [action for action in actions if isinstance(action, SetStableVersion) and action.version != "1"]
    assert not changed
