"""BlueGreen and Experiment under a steady load of clients: who answers whom and when, and how fast the way back is.

As in every scenario, each client gets a score, and nobody whom the new version answered is sent back before the end.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from e2e import model_versions as versions
from e2e.kubernetes_api import Document
from e2e.namespace import TARGET
from e2e.parallel import promotion_scenario
from e2e.promotion import ANALYSIS, CANARY
from e2e.scenario import Scenario
from e2e.test_promotion import example
from localcluster.console import say

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# Wide, because the machine is shared; narrow enough that it needs the champion's latency to be Successful.
LATENCY: Document = {"type": "LatencyP99", "limit": 50}
BLUE_GREEN: Document = {
    "steps": None,
    "strategy": "BlueGreen",
    "shadow": {"duration": "5s"},
    "blueGreen": {"observe": "5s"},
    "analysis": {**ANALYSIS, "metrics": [*ANALYSIS["metrics"], LATENCY]},
}
STAYS_SWITCHED: Document = {**BLUE_GREEN, "blueGreen": {"observe": "10m"}}
EXPERIMENT: Document = {
    "steps": None, "strategy": "Experiment", "experiment": {"weight": 40, "duration": "20s"},
}  # fmt: skip
# The route reaches the pods within a fraction of a second; the operator's turn, and a crowded machine, are the rest.
LONGEST_WAY_BACK_SECONDS = 15.0


@promotion_scenario(**BLUE_GREEN)
def test_a_good_version_gets_everybody_at_once_and_is_promoted(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for("the shadow phase", lambda s: (
        s.get("route", {}).get("mode") == "shadow" and s.get("stepStartedAt")))  # fmt: skip
    stable, canary = scenario.namespace.deployment(TARGET), scenario.namespace.deployment(f"{TARGET}-canary")
    assert canary["spec"]["replicas"] == stable["spec"]["replicas"], "no full copy"
    assert not scenario.answers_by_canary(version)
    scenario.promotion.wait_for_weight(100)
    switched = time.time()
    scenario.clients.wait_for_answers(60)
    assert {answer.version for answer in scenario.clients.since(switched)} == {version}
    scenario.assert_promoted(version)


@promotion_scenario(**BLUE_GREEN)
@pytest.mark.parametrize(
    ("make", "words"),
    [(versions.shifted, "decision shift"), (versions.failing, "error rate")],
    ids=["shifted decisions", "errors"],
)
def test_a_bad_version_is_rolled_back_before_it_answers_anybody(scenario: Scenario, make: Any, words: str) -> None:
    version = scenario.roll_out(make)
    scenario.assert_rolled_back(version, "AnalysisFailed", words)
    assert {answer.version for answer in scenario.clients.answers} == {scenario.stable}


@pytest.mark.soak
@promotion_scenario(**STAYS_SWITCHED)
def test_an_abort_after_the_switch_takes_seconds(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(100)
    scenario.clients.wait_for_answers()
    aborted = time.time()
    scenario.promotion.annotate("abort")
    scenario.assert_rolled_back(version, "Aborted", "manually")
    seconds = last_answer_by(scenario, version) - aborted
    say(f"seconds from an abort at 100 % to the last answer by the canary: {seconds:.1f}")
    assert seconds < LONGEST_WAY_BACK_SECONDS


@pytest.mark.soak
@promotion_scenario(**{**BLUE_GREEN, "blueGreen": {"observe": "5s", "keepFor": "10m"}})
def test_a_return_to_the_version_that_is_kept_switches_everybody_within_seconds(scenario: Scenario) -> None:
    namespace, promotion, former = scenario.namespace, scenario.promotion, scenario.stable
    version = scenario.roll_out(versions.good)
    promotion.wait_for("the promotion, with the former version kept", lambda s: (
        (s["phase"], s.get("stableVersion"), s.get("keptVersion")) == ("Idle", version, former)))  # fmt: skip
    namespace.wait_until("the former version's pods are ready", lambda: (
        namespace.annotation(f"{TARGET}-canary", "creditrisk.io/model-version") == former))  # fmt: skip
    namespace.wait_for_rollouts(f"{TARGET}-canary")
    scenario.assert_nobody_was_sent_back(version)
    scenario.stable = version

    returned = time.time()
    namespace.move_pointer(former)
    promotion.wait_for_phase("Promoting")
    noticed = time.time()
    promotion.wait_for("everybody is switched", lambda s: s["verifiedWeight"] == 100 or s["stableVersion"] == former)
    switched = time.time()
    promotion.wait_for("the return", lambda s: (s["phase"], s["stableVersion"]) == ("Idle", former))
    say(f"seconds from a moved pointer to the last answer by the version before: "
        f"{last_answer_by(scenario, version) - returned:.1f}; from its notice: "
        f"{last_answer_by(scenario, version) - noticed:.1f}")  # fmt: skip
    assert last_answer_by(scenario, version) - noticed < LONGEST_WAY_BACK_SECONDS
    assert {answer.version for answer in scenario.clients.since(switched)} == {former}
    scenario.assert_nobody_was_sent_back(former, since=returned)
    assert namespace.served() == former
    assert promotion.status()["keptVersion"] == version, "the way forward is as fast"


@promotion_scenario()
def test_the_blue_green_example_is_followed(scenario: Scenario) -> None:
    document = example("blue-green", scenario.promotion)
    document["spec"]["model"]["name"] = scenario.namespace.model
    document["spec"] |= {"analysis": ANALYSIS, "canary": CANARY, "shadow": {"duration": "5s"}}
    document["spec"]["blueGreen"] = {"observe": "5s", "keepFor": "5s"}
    scenario.promotion.apply_document(document)
    scenario.assert_promoted(scenario.roll_out(versions.good))


@promotion_scenario(**EXPERIMENT)
def test_an_experiment_ends_with_a_report_and_without_a_promotion(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(40)
    report = scenario.assert_completed(version)
    assert (report["weight"], report["championVersion"]) == (40, scenario.stable)
    assert min(report[arm]["answers"] for arm in ("champion", "challenger")) > 40
    (shift,) = (found for found in report["measured"] if found["name"] == "change of the decline rate")
    assert shift["paired"]
    assert shift["lower"] <= 0 <= shift["upper"], "the same model decides the same"
    assert report["segments"]

    ended = time.time()
    scenario.clients.wait_for_answers(250)
    assert {answer.version for answer in scenario.clients.since(ended)} == {scenario.stable}
    status = scenario.promotion.status()
    outcomes = [entry["outcome"] for entry in status["history"]]
    assert (status["phase"], outcomes.count("Completed")) == ("Idle", 1)

    scenario.promotion.act("retry")
    scenario.promotion.wait_for_weight(40)
    retried = time.time()
    scenario.assert_completed(version, since=retried)


@promotion_scenario(**{**EXPERIMENT, "experiment": {"weight": 50, "duration": "10m"}})
def test_an_experiment_with_a_bad_version_ends_at_once(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.shifted)
    scenario.assert_rolled_back(version, "AnalysisFailed", "decision shift")


@pytest.mark.soak
@promotion_scenario(**EXPERIMENT)
def test_the_winner_of_an_experiment_is_rolled_out_by_another_strategy(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.assert_completed(version)
    rolled_out = time.time()
    scenario.promotion.apply()
    scenario.assert_promoted(version, since=rolled_out)


def last_answer_by(scenario: Scenario, version: str) -> float:
    """Return when the last request was sent that a version answered, in seconds since 1970."""
    return max(answer.sent for answer in scenario.clients.answers if answer.version == version)
