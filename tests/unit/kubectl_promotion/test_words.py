"""What happens next, and why something happened, in words."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kubectl_promotion.cluster.promotions import ModelPromotion
from kubectl_promotion.words.explanation import explain
from promoter.api.rules import parse_spec
from promoter.api.status import HistoryEntry, Phase, State, Verdict
from promoter.words.outlook import outlook
from promoter.words.reasons import PROBLEMS, ROLLBACKS, STOPS
from promoter.words.times import duration, in_words
from unit.kubectl_promotion.documents import (
    EXPERIMENT,
    SHIFT,
    SPEC,
    analyzed,
    completed_state,
    condition,
    document,
    failed_state,
    state_in,
)
from unit.promoter.test_runbooks import of_observations, of_rollbacks

NOW = 10_000.0
TIMES = {"phase_started_at": NOW - 100, "step_started_at": NOW - 100, "analyzed_at": NOW - 20}


def next_of(state: State, **spec: Any) -> list[str]:
    """Return the outlook 100 s into a phase or step; the analysis was 20 s ago."""
    return outlook(parse_spec(document(state, **spec)["spec"]), state.model_copy(update=TIMES), NOW)


@pytest.mark.parametrize(
    ("state", "spec", "expected"),
    [
        (state_in(Phase.INITIALIZING), {}, [
            "the first version that the alias production names is promoted without a canary"]),
        (state_in(Phase.IDLE), {}, ["a rollout, once the alias production names another version"]),
        (state_in(Phase.IDLE), {"model": {"name": "m", "version": "7"}}, ["nothing: version 7 is pinned"]),
        (state_in(Phase.IDLE), {"suspend": True}, [
            "nothing: suspended; kubectl promotion resume lets it start rollouts again"]),
        (state_in(Phase.STARTING), {}, ["step 1/4 (5 % for 5m), once the canary is ready",
                                        "a rollback, if it is not ready in 8m20s"]),
        (state_in(Phase.STARTING), {"skipAnalysis": True}, ["the promotion, without analysis, once the canary is ready",
                                                            "a rollback, if it is not ready in 8m20s"]),
        (state_in(Phase.PROGRESSING), {}, [
            "step 3/4 (pause at 25 % until resumed) in 3m20s, if every check is Successful then",
            "an analysis in 10s"]),
        (state_in(Phase.PROGRESSING, errors=2, failures=1), {}, [
            "step 3/4 (pause at 25 % until resumed) in 3m20s, if every check is Successful then", "an analysis in 10s",
            "a rollback after 1 more Failed verdict (1 so far)", "a rollback after 3 more Errors in a row (2 so far)"]),
        (state_in(Phase.PROGRESSING), {"suspend": True}, [
            "nothing: suspended at this step; kubectl promotion resume lets it go on to step 3/4 (pause at 25 % until "
            "resumed)", "an analysis in 10s"]),
        (state_in(Phase.PAUSED), {}, ["step 4/4 (50 % for 10m), when a person resumes it: kubectl promotion resume",
                                      "an analysis in 10s"]),
        (state_in(Phase.PROMOTING), {}, ["version 8 is promoted, once every stable pod serves it",
                                         "a rollback, if the rolling update is not over in 8m20s"]),
        (state_in(Phase.FINISHING), {}, ["the canary is deleted, and the rollout is over"]),
        (state_in(Phase.ROLLING_BACK), {}, ["the canary is deleted, and version 7 serves alone"]),
        (state_in(Phase.PROGRESSING, step_index=0), EXPERIMENT, [
            "the end of the experiment in 1d23h, unless a check fails", "an analysis in 10s"]),
        (completed_state(), EXPERIMENT, [
            "nothing, until the experiment is repeated (kubectl promotion retry) or the alias production moves"]),
        (completed_state(), {}, ["a rollout, once the alias production names another version"]),
        (state_in(Phase.IDLE, kept_version="7", kept_until=NOW + 90), {}, [
            "a rollout, once the alias production names another version",
            "version 7 stays ready for a return within seconds (kubectl promotion undo), and is deleted in 1m30s"]),
        (state_in(Phase.PROGRESSING, step_index=1), {"steps": None, "strategy": "BlueGreen"}, [
            "the promotion in 8m20s, if every check is Successful then", "an analysis in 10s"]),
        (state_in(Phase.FAILED), {}, ["a rollout, once the alias production names another version",
                                      "version 8 is tried again only when asked: kubectl promotion retry"]),
    ],
)  # fmt: skip
def test_what_happens_next(state: State, spec: dict[str, Any], expected: list[str]) -> None:
    assert next_of(state, **spec) == expected


@pytest.mark.parametrize(
    ("choice", "verdict", "expected"),
    [
        ("Wait", Verdict.INCONCLUSIVE, "as soon as every check is Successful"),
        ("Proceed", Verdict.INCONCLUSIVE, "after the next analysis, unless a check fails"),
        ("Proceed", Verdict.ERROR, "as soon as every check is Successful"),
        ("Pause", Verdict.INCONCLUSIVE, "a pause until resumed, unless the next analysis has enough samples"),
    ],
)
def test_what_happens_when_the_time_of_a_step_is_up(choice: str, verdict: Verdict, expected: str) -> None:
    state = state_in(Phase.PROGRESSING, analysis=analyzed(verdict))
    steps = [{"weight": 5, "duration": "1m"}, {"weight": 25, "duration": "1m"}]
    assert expected in next_of(state, steps=steps, analysis={"onInsufficientData": choice})[0]


def test_the_clock_of_a_step_starts_when_every_pod_applies_the_weight() -> None:
    state = state_in(Phase.PROGRESSING).model_copy(update={**TIMES, "step_started_at": None})
    assert outlook(parse_spec(SPEC), state, NOW) == [
        "the step's clock starts once every stable pod applies 25 %", "a rollback, if one does not in 8m20s",
    ]  # fmt: skip


def test_every_reason_has_a_meaning() -> None:
    assert sorted(ROLLBACKS) == sorted(of_rollbacks())
    assert of_observations() <= set(PROBLEMS)


def explained(state: State, version: str | None = None, **spec: Any) -> str:
    found = explain(ModelPromotion.read(document(state, **spec)), version, time.time())
    return " ".join((found.summary, *(f"{title}: {text}" for title, text in found.points)))


@pytest.mark.parametrize("reason", ROLLBACKS)
def test_each_rollback_is_explained_with_what_to_do(reason: str) -> None:
    text = explained(failed_state(reason))
    assert ROLLBACKS[reason].what in text
    assert f"what to do: {ROLLBACKS[reason].advice}" in text
    assert SHIFT.message in text
    assert ("measured: DecisionShift was 0.091" in text) == reason.startswith("Analysis")


def test_a_rollback_is_explained_with_the_bounds_of_what_was_measured() -> None:
    found = document(failed_state())
    found["status"]["analysis"]["results"][0]["lower"] = 0.06
    (measured,) = (text for title, text in explain(ModelPromotion.read(found), "8", time.time()).points
                   if title == "measured")  # fmt: skip
    assert measured == "DecisionShift was 0.091 (with confidence >= 0.06); the limit is 0.05, over 1060 answers"


@pytest.mark.parametrize("reason", STOPS)
def test_a_stopped_rollout_is_explained(reason: str) -> None:
    entry = HistoryEntry(version="8", outcome="Stopped", reason=reason, at=time.time() - 65)
    text = explained(state_in(Phase.IDLE, canary_version=None, history=(entry,)), "8")
    assert "The rollout of version 8 was stopped 1m" in text
    assert STOPS[reason].what in text


@pytest.mark.parametrize("version", [None, "8"])
def test_a_completed_experiment_is_explained_by_its_report(version: str | None) -> None:
    text = explained(completed_state(), version, **EXPERIMENT)
    for expected in (
        "The experiment with version 8 ended", "it promotes nothing",
        "experiment: version 8 answered 30 % of the applicants for 2d",
        "version 8: 3000 answers, 21.00% declined, p99 3.4 ms; version 7: 7000 answers, 20.00% declined, p99 3.1 ms",
        "change of the decline rate 0.0120 (0.0040 to 0.0200) over 2950 pairs; error rate 0.0010",
        "gender/female 0.0200 (0.0010 to 0.0400) over 1400 pairs; 3 more changed less",
        "what to do: roll the version out by another strategy",
    ):  # fmt: skip
        assert expected in text, expected


def test_a_version_that_failed_once_and_is_tried_again_is_about_the_present() -> None:
    state = failed_state(phase=Phase.PROGRESSING, canary_version="8", weight=5, message="step 1/4: live 5 %")
    text = explained(state, "8")
    assert "Version 8 is being rolled out and has 5 % of the applicants" in text
    assert "now: step 1/4: live 5 %" in text


def test_a_promoted_version_and_a_rest_are_explained() -> None:
    state = state_in(Phase.IDLE, canary_version=None, desired_version="7")
    assert "No rollout is in progress, and version 7 is stable." in explained(state)
    assert "Version 7 was promoted 1d1h ago" in explained(state, "7")
    assert "Version 7 is stable; its rollout is no longer remembered." in explained(
        state.model_copy(update={"history": ()}), "7"
    )


def test_a_problem_is_explained_with_what_to_do() -> None:
    problem = condition("Degraded", "True", "RegistryUnreachable", "the registry has not answered since noon")
    text = explained(state_in(Phase.IDLE, canary_version=None, conditions=(problem,)))
    assert "not answered since noon" in text
    assert "what to do: look at MLflow and its database" in text
    drifted = condition("Drifted", "True", "DriftFound", "income is not what it was")
    text = explained(state_in(Phase.IDLE, canary_version=None, conditions=(drifted,)))
    assert "drift: income is not what it was" in text
    assert "what to do: read the drift report" in text
    invalid = explained(state_in(Phase.IDLE, canary_version=None), steps=[{"weight": 5}])
    assert "Nothing is rolled out: spec.steps: a weight needs a duration" in invalid


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (130, "2m10s"), (3600, "1h"), (90_061, "1d1h"), (86_400 + 59, "1d"), (-5, "0s")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert in_words(seconds) == ("now" if seconds < 1 else f"in {text}")
