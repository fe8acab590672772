"""Registry pointers move under a steady load of clients, and the operator rolls versions out or takes them back.

Whatever happens: no client gets a bad answer, and nobody whom the canary answered is sent back to the champion while
the weight only grows. Both are read from the clients' own record, at the end of every scenario.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from e2e import bad_models as versions
from e2e.beside import on_a_lane
from e2e.lanes import ANALYSIS, LONGEST_WAIT, PROMOTION, STEPS, Lane
from localcluster.paths import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LONG = [{"weight": 30, "duration": "10m"}]


@on_a_lane
def test_a_good_version_is_promoted_by_the_example_that_follows_the_alias(lane: Lane) -> None:
    document = example("follow-alias")
    document["spec"]["model"]["name"] = lane.model
    # The usual steps, which it takes, in seconds. To 5 % come few.
    document["spec"]["steps"] = [{"weight": weight} for weight in (5, 25, 50)]
    document["spec"]["analysis"] = {**ANALYSIS, "minSamples": 20}
    lane.follow()
    lane.apply(quickly(document))
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.site.kubectl(
            lane.namespace, "wait", f"mp/{PROMOTION}", f"--for=jsonpath={{.status.desiredVersion}}={version}"
        )
        lane.site.kubectl(
            lane.namespace, "wait", f"mp/{PROMOTION}", "--for=condition=Promoted", f"--timeout={LONGEST_WAIT:g}s"
        )
        lane.assert_promoted(version)
    assert lane.by_canary(version) > 40
    assert {answer.version for answer in lane.load.answers[-30:]} == {version}


@on_a_lane
@pytest.mark.parametrize(
    ("make", "analysis", "reason", "words"),
    [
        (versions.drifted, {}, "AnalysisFailed", "score PSI"),
        (versions.shifted, {}, "AnalysisFailed", "decision shift"),
        (versions.slow, {"metrics": [{"type": "LatencyP99"}], "minSamples": 20}, "AnalysisFailed", "latency p99 ratio"),
        (versions.failing, {}, "AnalysisFailed", "error rate"),
        (versions.hungry, {}, "CanaryFailed", "OOMKilled"),
        (versions.corrupt, {}, "CanaryFailed", "its tag says"),
        (versions.misfitting, {}, "CanaryFailed", "wrong contract: the canary asks for"),
    ],
    ids=["scores drifted", "decisions shifted", "slow", "answering 500", "crashing", "corrupt", "wrong contract"],
)
def test_a_bad_version_is_rolled_back(lane: Lane, make: Any, analysis: dict[str, Any], reason: str, words: str) -> None:
    lane.follow(analysis={**ANALYSIS, **analysis}, steps=[{"weight": 20, "duration": "60s"}])
    with lane.clients():
        version = lane.roll_out(make)
        lane.assert_rolled_back(version, reason, words)
    assert lane.load.answers[-1].version == lane.stable


@on_a_lane
def test_a_version_that_dies_of_real_requests_is_rolled_back(lane: Lane) -> None:
    lane.follow(steps=[{"weight": 20, "duration": "60s"}])
    with lane.clients():
        version = lane.roll_out(versions.bursting)
        found = lane.wait_for("rolled back", lambda s: s.get("phase") == "Failed" and s.get("failedVersions"))
        assert found["failedVersions"][0]["version"] == version
        assert found["failedVersions"][0]["reason"] in {"CanaryFailed", "CanaryLost", "AnalysisFailed"}
    assert not lane.by_canary(version)


@on_a_lane
def test_the_pinned_version_of_the_example_is_rolled_out(lane: Lane) -> None:
    lane.follow()
    pinned = lane.register(versions.good)
    document = example("pin-version")
    document["spec"]["model"] = {"name": lane.model, "version": pinned}
    with lane.clients():
        lane.apply(quickly(document))
        lane.assert_promoted(pinned)
    document["spec"]["model"] = {"name": lane.model, "version": "99999"}
    lane.apply(quickly(document))
    found = lane.wait_for("an absent version is told", lambda s: "no version" in s["message"])
    assert found["stableVersion"] == lane.served() == pinned


@on_a_lane
def test_the_cautious_example_shadows_first_and_waits_for_a_persons_word(lane: Lane) -> None:
    document = example("cautious")
    document["spec"]["model"]["name"] = lane.model
    document["spec"]["canary"] = {"replicas": 2, "deadlineMilliseconds": 5000}
    # Limits as tight as the example's need thousands of answers to be told from chance.
    types = [metric["type"] for metric in document["spec"]["analysis"]["metrics"]]
    metrics = [{"type": kind, "limit": 0.5} for kind in types if kind != "LatencyP99"]
    changes = {"interval": "2s", "minSamples": 20, "onInsufficientData": "Wait", "metrics": metrics}
    document["spec"]["analysis"] |= changes
    document["spec"]["shadow"]["duration"] = "5s"
    document["spec"]["steps"][0]["weight"] = 10
    lane.follow()
    lane.apply(quickly(document))
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the shadow", lambda s: s.get("route", {}).get("mode") == "shadow" and s.get("stepStartedAt"))
        assert not lane.by_canary(version)
        lane.wait_for("the pause", lambda s: s["phase"] == "Paused")
        assert lane.by_canary(version)
        assert lane.served() == lane.stable
        lane.act("resume")
        lane.assert_promoted(version)


@on_a_lane
def test_abort_takes_a_version_back_and_retry_tries_it_again(lane: Lane) -> None:
    lane.follow(steps=LONG)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["phase"] == "Progressing" and s["verifiedWeight"] == 30)
        lane.act("abort")
        lane.assert_rolled_back(version, "Aborted", "by hand")
    with lane.clients():
        lane.apply(lane.document())
        lane.act("retry")
        assert "Retried" in lane.events()
        lane.assert_promoted(version)


@on_a_lane
def test_suspend_holds_a_rollout_and_another_action_is_refused_with_an_event(lane: Lane) -> None:
    lane.follow(suspend=True)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the wait", lambda s: s["message"] == f"suspended; version {version} waits")
        lane.act("resume")
        assert "means nothing in phase Idle" in lane.events()["ActionIgnored"]
        lane.apply(lane.document(suspend=False))
        lane.assert_promoted(version)


@on_a_lane
def test_a_newer_version_takes_the_place_of_one_in_mid_rollout(lane: Lane) -> None:
    lane.follow(steps=LONG)
    with lane.clients():
        first = lane.roll_out(versions.good)
        lane.wait_for("the first canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.apply(lane.document())
        second = lane.roll_out(versions.good)
        lane.assert_promoted(second)
        history = lane.status()["history"]
        assert (history[1]["version"], history[1]["reason"]) == (first, "Superseded")
        lane.assert_nobody_turned_back(first, until=history[1]["at"])


@on_a_lane
def test_a_pointer_that_moves_back_ends_the_rollout_quietly(lane: Lane) -> None:
    lane.follow(steps=LONG)
    with lane.clients():
        version = lane.roll_out(versions.good)
        lane.wait_for("the canary's share", lambda s: s["verifiedWeight"] == 30)
        lane.point_to(lane.stable)
        found = lane.wait_for("rest", lambda s: s["phase"] == "Idle" and s.get("history"))
        assert found["history"][0] | {"at": 0} == {
            "version": version, "outcome": "Stopped", "reason": "PointerMovedBack", "at": 0}  # fmt: skip
        assert not found.get("failedVersions")
        assert lane.conditions()["Promoted"][0] == "True"
        assert lane.served() == lane.stable
        lane.assert_nobody_turned_back(version, until=found["history"][0]["at"])


@on_a_lane
def test_a_return_to_the_last_stable_version_goes_straight_in(lane: Lane) -> None:
    lane.follow(steps=[{"weight": 50, "duration": "1s"}])
    with lane.clients():
        former = lane.stable
        lane.assert_promoted(lane.roll_out(versions.good))
    with lane.clients():
        lane.point_to(former)
        lane.assert_promoted(former)
    assert not lane.by_canary(former)


@on_a_lane
def test_an_invalid_spec_is_a_condition_and_nothing_is_done(lane: Lane) -> None:
    lane.follow()
    document = lane.document(steps=[{"weight": 50, "duration": "5s"}, {"weight": 10, "duration": "5s"}])
    lane.apply(document)
    lane.wait_until("the condition", lambda: any(reason == "InvalidSpec" for _, reason in lane.conditions().values()))
    assert lane.served() == lane.stable


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((REPOSITORY / "manifests" / f"{name}.yaml").read_text())
    document["metadata"]["name"] = PROMOTION
    return document


def quickly(document: dict[str, Any]) -> dict[str, Any]:
    """Return an example with the same way, walked in seconds."""
    spec = document["spec"]
    for step in spec.get("steps", STEPS):
        if "weight" in step:
            step["duration"] = "5s"
    spec.setdefault("analysis", ANALYSIS)
    spec.setdefault("canary", {"deadlineMilliseconds": 5000})
    return document
