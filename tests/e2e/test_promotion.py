"""The Production pointer moves under a steady load of clients, and the operator promotes versions or rolls them back.

Every scenario starts with a champion that serves, a ModelPromotion at rest, and clients. Whatever happens, every client
gets a score, and no applicant whom the new version answered is answered by the champion again unless the rollout ended
without a promotion: neither while the weight grows, nor while the stable pods are updated. Both are read from the
clients' own record, at the end of every scenario.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from e2e import model_versions as versions
from e2e.namespace import LONGEST_WAIT_SECONDS
from e2e.parallel import promotion_scenario
from e2e.promotion import ANALYSIS, CANARY, LONGEST_LINE, STAYS_AT_30_PERCENT, STEPS, Promotion
from e2e.scenario import Scenario
from localcluster.paths import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
TWENTY_PERCENT = [{"weight": 20, "duration": "60s"}]


@promotion_scenario()
def test_the_follow_alias_example_promotes_a_good_version(scenario: Scenario) -> None:
    document = example("follow-alias", scenario.promotion)
    document["spec"]["model"]["name"] = scenario.namespace.model
    # The default steps, in seconds. 5 % of the clients are few.
    document["spec"]["steps"] = [{"weight": weight} for weight in (5, 25, 50)]
    document["spec"]["analysis"] = {**ANALYSIS, "minSamples": 20}
    scenario.promotion.apply_document(accelerated(document))
    version = scenario.roll_out(versions.good)
    name, wait = f"mp/{scenario.promotion.name}", scenario.namespace.kubectl
    wait("wait", name, f"--for=jsonpath={{.status.desiredVersion}}={version}")
    wait("wait", name, "--for=condition=Promoted", f"--timeout={LONGEST_WAIT_SECONDS:g}s")
    scenario.assert_promoted(version)
    assert scenario.answers_by_canary(version) > 40
    assert {answer.version for answer in scenario.clients.answers[-30:]} == {version}


@promotion_scenario(steps=TWENTY_PERCENT)
@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        (versions.drifted, "AnalysisFailed", ["score PSI"]),
        (versions.shifted, "AnalysisFailed", ["decision shift"]),
        (versions.failing, "AnalysisFailed", ["error rate"]),
        (versions.crashing_at_startup, "CanaryFailed", ["OOMKilled"]),
        (versions.corrupt, "CanaryFailed", ["its tag says"]),
        (versions.requiring_a_new_field, "CanaryFailed", ["feature-added", "annual_income_after_tax"]),
        (versions.dropping_a_field, "CanaryFailed", ["feature-dropped", "grade_subgrade"]),
    ],
    ids=["drifted scores", "shifted decisions", "errors", "crash", "corrupt file", "added field", "dropped field"],
)
def test_a_bad_version_is_rolled_back(scenario: Scenario, make: Any, reason: str, words: list[str]) -> None:
    version = scenario.roll_out(make)
    scenario.assert_rolled_back(version, reason, *words)
    assert scenario.clients.answers[-1].version == scenario.stable


@promotion_scenario(steps=TWENTY_PERCENT, analysis={**ANALYSIS, "metrics": [{"type": "LatencyP99"}], "minSamples": 20})
def test_a_slow_version_is_rolled_back(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.slow)
    scenario.assert_rolled_back(version, "AnalysisFailed", "latency p99 ratio")
    assert scenario.clients.answers[-1].version == scenario.stable


@promotion_scenario(steps=TWENTY_PERCENT)
def test_a_version_that_crashes_on_real_requests_is_rolled_back(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.crashing_on_requests)
    status = scenario.promotion.wait_for("a rollback", lambda s: s.get("phase") == "Failed" and s.get("failedVersions"))
    assert status["failedVersions"][0]["version"] == version
    assert status["failedVersions"][0]["reason"] in {"CanaryFailed", "CanaryLost", "AnalysisFailed"}
    assert not scenario.answers_by_canary(version)


@pytest.mark.soak
@promotion_scenario()
def test_the_pin_version_example_rolls_the_pinned_version_out(scenario: Scenario) -> None:
    pinned = scenario.namespace.register(versions.good)
    document = example("pin-version", scenario.promotion)
    document["spec"]["model"] = {"name": scenario.namespace.model, "version": pinned}
    scenario.promotion.apply_document(accelerated(document))
    scenario.assert_promoted(pinned)

    document["spec"]["model"]["version"] = "99999"
    scenario.promotion.apply_document(accelerated(document))
    status = scenario.promotion.wait_for("a message on the missing version", lambda s: "no version" in s["message"])
    assert status["stableVersion"] == scenario.namespace.served() == pinned


@promotion_scenario()
def test_the_cautious_example_shadows_first_and_pauses_for_a_manual_decision(scenario: Scenario) -> None:
    document = example("cautious", scenario.promotion)
    document["spec"]["model"]["name"] = scenario.namespace.model
    document["spec"]["canary"] = {**CANARY, "replicas": 2}
    # The example's tight limits need thousands of answers to be told from chance.
    types = [metric["type"] for metric in document["spec"]["analysis"]["metrics"]]
    metrics = [{"type": kind, "limit": 0.5} for kind in types if kind != "LatencyP99"]
    changes = {"interval": "2s", "minSamples": 20, "onInsufficientData": "Wait", "metrics": metrics}
    document["spec"]["analysis"] |= changes
    document["spec"]["shadow"]["duration"] = "5s"
    document["spec"]["steps"][0]["weight"] = 10
    scenario.promotion.apply_document(accelerated(document))

    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for("the shadow step", lambda s: (
        s.get("route", {}).get("mode") == "shadow" and s.get("stepStartedAt")))  # fmt: skip
    assert not scenario.answers_by_canary(version)
    scenario.promotion.wait_for_phase("Paused")
    assert scenario.answers_by_canary(version)
    assert scenario.namespace.served() == scenario.stable
    scenario.promotion.act("resume")
    scenario.assert_promoted(version)


@pytest.mark.soak
@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_abort_rolls_a_version_back_and_retry_rolls_it_out_again(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    assert max(map(len, scenario.promotion.table())) <= LONGEST_LINE
    scenario.promotion.act("abort")
    assert max(map(len, scenario.promotion.table())) <= LONGEST_LINE
    scenario.assert_rolled_back(version, "Aborted", "manually")

    retried = time.time()
    scenario.promotion.apply()
    scenario.promotion.act("retry")
    assert "Retried" in scenario.promotion.events()
    scenario.assert_promoted(version, since=retried)


@pytest.mark.soak
@promotion_scenario(suspend=True)
def test_suspend_delays_a_rollout_and_an_action_that_does_not_apply_gets_an_event(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    message = f"suspended; version {version} is waiting"
    scenario.promotion.wait_for(message, lambda s: s["message"] == message)
    scenario.promotion.act("resume")
    assert "does not apply in phase Idle" in scenario.promotion.events()["ActionIgnored"]
    scenario.promotion.apply(suspend=False)
    scenario.assert_promoted(version)


@pytest.mark.soak
@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_a_newer_version_supersedes_one_in_mid_rollout(scenario: Scenario) -> None:
    first = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    scenario.promotion.apply(steps=STEPS)
    second = scenario.roll_out(versions.good)
    scenario.assert_promoted(second)
    superseded = scenario.promotion.history()[1]
    assert (superseded.version, superseded.reason) == (first, "Superseded")
    scenario.assert_nobody_was_sent_back(first, until=superseded.at)


@promotion_scenario(steps=STAYS_AT_30_PERCENT)
def test_a_pointer_that_moves_back_stops_the_rollout_without_a_judgment(scenario: Scenario) -> None:
    version = scenario.roll_out(versions.good)
    scenario.promotion.wait_for_weight(30)
    scenario.namespace.move_pointer(scenario.stable)
    status = scenario.promotion.wait_for("a stopped rollout", lambda s: s["phase"] == "Idle" and s.get("history"))
    scenario.assert_stopped(version, "PointerMovedBack")
    assert not status.get("failedVersions")
    assert scenario.promotion.conditions()["Promoted"][0] == "True"


@pytest.mark.soak
@promotion_scenario(steps=[{"weight": 50, "duration": "1s"}])
def test_a_return_to_the_last_stable_version_is_promoted_without_a_canary(scenario: Scenario) -> None:
    former = scenario.stable
    scenario.assert_promoted(scenario.roll_out(versions.good))
    scenario.namespace.move_pointer(former)
    scenario.assert_promoted(former, by_canary=False)
    assert not scenario.answers_by_canary(former)


def example(name: str, promotion: Promotion) -> dict[str, Any]:
    """Return one of the manifests that users start from, under the scenario's name."""
    document: dict[str, Any] = yaml.safe_load((REPOSITORY / "manifests" / f"{name}.yaml").read_text())
    document["metadata"]["name"] = promotion.name
    return document


def accelerated(document: dict[str, Any]) -> dict[str, Any]:
    """Return an example with the same steps in seconds."""
    spec = document["spec"]
    for step in spec.get("steps", STEPS):
        if "weight" in step:
            step["duration"] = "5s"
    spec.setdefault("analysis", ANALYSIS)
    spec.setdefault("canary", CANARY)
    return document
