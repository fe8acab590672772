"""Conditions that report outages: what serves, what is missing, and since when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.api.rules import parse_spec
from promoter.api.status import ArtifactCopy, ArtifactsProblem, FailedVersion, Phase, State
from promoter.decision.conditions import CAPACITY_GRACE_SECONDS, REGISTRY_GRACE_SECONDS
from promoter.decision.decide import decide
from promoter.decision.observation import Observation, RegistryView, StableView

NOW = 10_000.0
SPEC = parse_spec({"model": {"name": "credit-risk"}})
COPY = ArtifactCopy(version="1", digests={}, config_maps=("m-1",))
HEALTHY = Observation(
    registry=RegistryView("1"),
    stable=StableView(True, "1", True, "t", wanted=3, available=3, config_maps=("m-1",)),
    artifacts=frozenset({"m-1"}),
)
DOWN = RegistryView(error="refused")


def idle(**changes: Any) -> State:
    state = State(phase=Phase.IDLE, stable_version="1", desired_version="1", artifacts=(COPY,), target="scoring")
    return state.model_copy(update=changes)


def after(state: State, observed: Observation, seconds: float = 0.0) -> State:
    """Return the state after two turns with the same observation, this far apart."""
    first = decide(SPEC, 1, state, observed, NOW).state
    return decide(SPEC, 1, first, observed, NOW + seconds).state if seconds else first


def row(state: State, kind: str) -> tuple[str, str, str]:
    found = state.condition(kind)
    assert found
    return found.status, found.reason, found.message


def pods(available: int, **changes: Any) -> Observation:
    return replace(HEALTHY, stable=replace(HEALTHY.stable, available=available, **changes))


def test_all_is_well() -> None:
    state = after(idle(), HEALTHY)
    assert row(state, "Ready") == ("True", "Serving", "version 1 is served by 3 of 3 pods")
    assert row(state, "Degraded") == ("False", "AsExpected", "no problem is known")
    assert row(state, "ArtifactsKept") == ("True", "Kept", "kept in the cluster: the files of version 1")


def test_a_turn_in_which_nothing_happened_changes_nothing() -> None:
    for observed in (HEALTHY, pods(1), replace(HEALTHY, registry=DOWN), replace(HEALTHY, artifacts=frozenset())):
        state = after(idle(), observed, 100)
        assert decide(SPEC, 1, state, observed, NOW + 110).state == state


def test_extra_pods_during_a_rolling_update_are_not_counted() -> None:
    assert row(after(idle(), pods(4)), "Ready")[2] == "version 1 is served by 3 of 3 pods"


@pytest.mark.parametrize("wanted", [3, 0])
def test_without_an_available_pod_it_is_not_ready(wanted: int) -> None:
    state = after(idle(), pods(0, wanted=wanted))
    assert row(state, "Ready") == ("False", "NoPodAvailable", f"version 1 is served by 0 of {wanted} pods")


def test_low_capacity_degrades_after_a_while_with_the_reason_of_a_pod() -> None:
    low = pods(1, waiting="pod scoring-x: ImagePullBackOff")
    assert row(after(idle(), low, CAPACITY_GRACE_SECONDS - 1), "Degraded")[0] == "False"
    state = after(idle(), low, CAPACITY_GRACE_SECONDS)
    assert row(state, "Degraded") == (
        "True", "CapacityLow", "version 1 is served by 1 of 3 pods only: pod scoring-x: ImagePullBackOff")  # fmt: skip
    assert row(state, "Ready")[0] == "True"
    assert row(after(state, HEALTHY), "Degraded")[0] == "False"
    assert after(state, HEALTHY).capacity_low_since is None


def test_pods_that_cannot_start_degrade_at_once_though_capacity_is_not_low_yet() -> None:
    assert row(after(idle(), pods(3, stalled="exceeded quota")), "Degraded") == (
        "True", "PodsCannotStart", "exceeded quota")  # fmt: skip
    low = after(idle(), pods(1, stalled="exceeded quota", waiting="pod x"), CAPACITY_GRACE_SECONDS)
    assert row(low, "Degraded")[1:] == ("CapacityLow", "version 1 is served by 1 of 3 pods only: exceeded quota")


def test_an_unreachable_registry_degrades_after_a_while() -> None:
    down = replace(HEALTHY, registry=DOWN)
    assert row(after(idle(), down, REGISTRY_GRACE_SECONDS - 1), "Degraded")[0] == "False"
    state = after(idle(), down, REGISTRY_GRACE_SECONDS)
    status, reason, message = row(state, "Degraded")
    assert (status, reason) == ("True", "RegistryUnreachable")
    assert message == "the registry has not answered since 1970-01-01T02:46:40Z: refused"
    assert row(state, "Ready")[0] == "True"
    assert row(after(state, HEALTHY), "Degraded")[0] == "False"


def test_a_stable_version_that_the_registry_deleted_is_reported_with_what_that_means() -> None:
    missing = replace(HEALTHY, registry=RegistryView(None, stable_missing=True))
    status, reason, message = row(after(idle(), missing), "Degraded")
    assert (status, reason) == ("True", "StableVersionMissing")
    assert message == "the registry no longer has version 1; pods start from the copy in the cluster"
    lost = after(idle(), replace(missing, artifacts=frozenset()))
    assert row(lost, "Degraded")[2] == "the registry no longer has version 1; no new pod can start"


def problem(reason: Any, age: float = 0.0) -> dict[str, Any]:
    found = ArtifactsProblem(version="1", reason=reason, message="why", since=NOW - age, at=NOW)
    return {"artifacts": (), "artifacts_problem": found}


@pytest.mark.parametrize("reason", ["TooLarge", "Rejected", "VersionNotFound", "Refused"])
def test_files_that_cannot_be_kept_degrade_at_once(reason: str) -> None:
    state = after(idle(**problem(reason)), HEALTHY)
    assert row(state, "Degraded") == ("True", "ArtifactsNotKept", "version 1: why")
    assert row(state, "ArtifactsKept") == ("False", reason, "version 1: why")


def test_files_that_a_busy_registry_does_not_return_degrade_after_a_while() -> None:
    early = after(idle(**problem("RegistryUnavailable", REGISTRY_GRACE_SECONDS - 1)), HEALTHY)
    assert row(early, "Degraded")[0] == "False"
    assert row(early, "ArtifactsKept")[:2] == ("False", "RegistryUnavailable")
    late = after(idle(**problem("RegistryUnavailable", REGISTRY_GRACE_SECONDS)), HEALTHY)
    assert row(late, "Degraded")[:2] == ("True", "ArtifactsNotKept")


def test_files_are_not_reported_as_kept_before_they_are_or_after_a_part_was_deleted() -> None:
    assert row(after(idle(artifacts=()), HEALTHY), "ArtifactsKept")[:2] == ("False", "NotYet")
    lost = after(idle(), replace(HEALTHY, artifacts=frozenset()))
    assert row(lost, "ArtifactsKept") == ("False", "Incomplete", "a ConfigMap of version 1 was deleted")


def test_what_matters_more_is_reported_first() -> None:
    failed = FailedVersion(version="1", reason="AnalysisFailed", message="m", at=1.0)
    state = idle(failed_versions=(failed,), **problem("TooLarge"), registry_unreachable_since=NOW - 100,
                 capacity_low_since=NOW - 100)  # fmt: skip
    missing = RegistryView("1", stable_missing=True)
    observed = replace(pods(1), registry=replace(missing, error="refused"))
    changes = [
        replace(observed, stable=StableView()), observed, replace(observed, stable=HEALTHY.stable),
        replace(HEALTHY, registry=missing), HEALTHY,
    ]  # fmt: skip
    reasons = [row(after(state, change), "Degraded")[1] for change in changes]
    reasons.append(row(after(idle(**problem("TooLarge")), HEALTHY), "Degraded")[1])
    assert reasons == ["TargetNotFound", "CapacityLow", "RegistryUnreachable", "StableVersionMissing",
                       "AnalysisFailed", "ArtifactsNotKept"]  # fmt: skip
