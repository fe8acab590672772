"""Which versions' files are kept in the cluster: when they are copied, mounted and deleted, and what waits for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promoter.api.resource import ArtifactsReason
from promoter.api.rules import parse_spec
from promoter.api.status import ArtifactCopy, ArtifactsProblem, Phase, State
from promoter.decision.actions import Action, ApplyCanary, DeleteArtifacts, KeepArtifacts, SetStableVersion
from promoter.decision.artifacts import REGISTRY_RETRY_SECONDS, RETRY_SECONDS, with_problem
from promoter.decision.decide import Decision, decide
from promoter.decision.observation import CanaryView, Observation, RegistryView, StableView

NOW = 10_000.0
SPEC = parse_spec({"model": {"name": "credit-risk"}, "progressDeadlineSeconds": 100})
DOWN = RegistryView(error="refused")
PERMANENT: list[ArtifactsReason] = ["TooLarge", "Rejected", "VersionNotFound", "Refused"]


def copy_of(version: str) -> ArtifactCopy:
    return ArtifactCopy(version=version, digests={"model.onnx": "d"}, config_maps=(f"m-{version}-0", f"m-{version}-1"))


def maps(*versions: str) -> frozenset[str]:
    return frozenset(name for version in versions for name in copy_of(version).config_maps)


def at_rest(*copies: str, **changes: Any) -> State:
    """Return a state in which version 1 is stable, and the files of these versions were copied."""
    state = State(phase=Phase.IDLE, stable_version="1", desired_version="1", artifacts=tuple(map(copy_of, copies)),
                  phase_started_at=NOW - 10, target="scoring")  # fmt: skip
    return state.model_copy(update=changes)


def starting(*copies: str, **changes: Any) -> State:
    """Return a state in which the rollout of version 2 begins."""
    changes = {"phase": Phase.STARTING, "canary_version": "2", "desired_version": "2", **changes}
    return at_rest(*copies, **changes)


def observe(version: str | None = "1", *, mounted: str = "", exist: frozenset[str] = frozenset(), **changes: Any) -> (
    Observation
):  # fmt: skip
    """Return stable pods of a version that mount the copy of another, and the ConfigMaps that exist."""
    stable = StableView(True, version, True, "t", wanted=2, available=2,
                        config_maps=copy_of(mounted).config_maps if mounted else ())  # fmt: skip
    return Observation(**{"registry": RegistryView("1"), "stable": stable, "artifacts": exist, **changes})


def turn(state: State, observed: Observation, now: float = NOW) -> Decision:
    return decide(SPEC, 1, state, observed, now)


def of_artifacts(decision: Decision) -> list[Action]:
    kinds = ApplyCanary | DeleteArtifacts | KeepArtifacts | SetStableVersion
    return [action for action in decision.actions if isinstance(action, kinds)]


def problem(version: str, reason: ArtifactsReason, age: float = 0.0) -> ArtifactsProblem:
    return ArtifactsProblem(version=version, reason=reason, message="why", since=NOW - age, at=NOW - age)


def test_an_adopted_version_is_copied_and_its_pods_get_the_volume_by_one_rolling_update() -> None:
    adopted = turn(State(), observe())
    assert of_artifacts(adopted) == [KeepArtifacts("1")]
    copied = adopted.state.model_copy(update={"artifacts": (copy_of("1"),)})
    mounting = turn(copied, observe(exist=maps("1")))
    assert of_artifacts(mounting) == [SetStableVersion("1", copy_of("1").config_maps)]
    assert of_artifacts(turn(mounting.state, observe(mounted="1", exist=maps("1")))) == []


def test_the_first_version_gets_its_volume_and_its_annotation_at_once() -> None:
    begun = turn(State(), observe(None))
    assert begun.state.phase == Phase.PROMOTING
    waiting = turn(begun.state, observe(None))
    assert of_artifacts(waiting) == [KeepArtifacts("1")]
    assert waiting.state.message == "copying the files of version 1 into the cluster"
    copied = waiting.state.model_copy(update={"artifacts": (copy_of("1"),)})
    assert of_artifacts(turn(copied, observe(None, exist=maps("1")))) == [
        SetStableVersion("1", copy_of("1").config_maps)]  # fmt: skip


def test_the_first_version_waits_for_the_registry_without_a_deadline() -> None:
    state = State(phase=Phase.PROMOTING, canary_version="1", desired_version="1", phase_started_at=NOW - 1000)
    found = turn(state, observe(None, registry=DOWN))
    assert (found.state.phase, of_artifacts(found)) == (Phase.PROMOTING, [])
    assert found.state.message == "copying the files of version 1 into the cluster: refused"


def test_a_canary_starts_only_once_its_files_are_copied() -> None:
    observed = observe(mounted="1", exist=maps("1"), registry=RegistryView("2"))
    waiting = turn(starting("1"), observed)
    assert of_artifacts(waiting) == [KeepArtifacts("2")]
    copied = waiting.state.model_copy(update={"artifacts": (copy_of("2"), copy_of("1"))})
    assert of_artifacts(turn(copied, replace(observed, artifacts=maps("1", "2")))) == [
        ApplyCanary("2", 1, copy_of("2").config_maps)]  # fmt: skip


def test_a_canary_whose_files_cannot_be_copied_in_time_is_rolled_back() -> None:
    state = starting("1", phase_started_at=NOW - 101, artifacts_problem=problem("2", "RegistryUnavailable", 1))
    found = turn(state, observe(mounted="1", exist=maps("1"), registry=RegistryView("2")))
    assert found.state.phase == Phase.ROLLING_BACK
    (failed,) = found.state.failed_versions
    assert (failed.reason, failed.message) == (
        "ProgressDeadlineExceeded", "its files could not be copied into the cluster within 101 s: why")  # fmt: skip


@pytest.mark.parametrize("reason", PERMANENT)
def test_a_canary_whose_files_cannot_be_kept_starts_and_loads_from_the_registry(reason: ArtifactsReason) -> None:
    state = starting("1", artifacts_problem=problem("2", reason, 10))
    found = turn(state, observe(mounted="1", exist=maps("1"), registry=RegistryView("2")))
    assert of_artifacts(found) == [ApplyCanary("2", 1)]


def test_a_canary_that_runs_already_goes_on_if_its_copy_is_lost_during_an_outage() -> None:
    running = CanaryView("2", "t", 1, 1, config_maps=copy_of("2").config_maps)
    found = turn(starting("1", "2"), observe(mounted="1", exist=maps("1"), registry=DOWN, canary=running))
    assert (found.state.phase, of_artifacts(found)) == (Phase.PROGRESSING, [])


@pytest.mark.parametrize(
    ("reason", "pause"),
    [("RegistryUnavailable", REGISTRY_RETRY_SECONDS), *((reason, RETRY_SECONDS) for reason in PERMANENT)],
)
def test_a_failed_copy_is_retried_after_a_pause(reason: ArtifactsReason, pause: float) -> None:
    for age, expected in ((pause - 1, []), (pause, [KeepArtifacts("1")])):
        found = turn(at_rest(artifacts_problem=problem("1", reason, age)), observe())
        assert of_artifacts(found) == expected
        assert found.state.artifacts_problem == problem("1", reason, age), "the status changes at every turn"


def test_a_deleted_configmap_is_recreated_and_no_pod_template_changes() -> None:
    found = turn(at_rest("1"), observe(mounted="1", exist=maps("1") - {"m-1-1"}))
    assert of_artifacts(found) == [KeepArtifacts("1")]
    kept = {c.type: (c.status, c.reason) for c in found.state.conditions}["ArtifactsKept"]
    assert kept == ("False", "Incomplete")


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.ROLLING_BACK])
def test_copies_that_are_deleted_during_a_rollout_are_recreated(phase: Phase) -> None:
    canary = CanaryView("2", "t", 1, 1, config_maps=copy_of("2").config_maps)
    served = "2" if phase == Phase.PROMOTING else "1"
    stable = StableView(True, served, False, "t", config_maps=copy_of(served).config_maps)
    for lost, kept in (("1", "2"), ("2", "1")):
        state = starting("1", "2", phase=phase)
        found = turn(state, observe(exist=maps(kept), stable=stable, canary=canary, registry=RegistryView("2")))
        assert of_artifacts(found) == [KeepArtifacts(lost)]


@pytest.mark.parametrize(("age", "expected"), [(RETRY_SECONDS - 1, []), (RETRY_SECONDS, [KeepArtifacts("1")])])
def test_a_running_rollout_rarely_waits_for_a_store_that_does_not_answer(age: float, expected: list[Action]) -> None:
    state = starting("1", "2", phase=Phase.PROGRESSING, artifacts_problem=problem("1", "RegistryUnavailable", age))
    canary = CanaryView("2", "t", 1, 1, config_maps=copy_of("2").config_maps)
    found = turn(state, observe(mounted="1", exist=maps("2"), canary=canary, registry=RegistryView("2")))
    assert of_artifacts(found) == expected


def test_nothing_changes_in_pod_templates_while_the_registry_is_down() -> None:
    for mounted in ("1", ""):
        found = turn(at_rest("1"), observe(mounted=mounted, registry=DOWN))
        assert of_artifacts(found) == []
        assert found.state.artifacts == (copy_of("1"),)


def test_a_status_of_an_operator_that_kept_no_copies_changes_no_pod_during_its_rollout() -> None:
    state = starting(phase=Phase.PROGRESSING, weight=5)
    found = turn(state, observe(registry=RegistryView("2"), canary=CanaryView("2", "t", 1, 1)))
    assert of_artifacts(found) == []


def test_the_previous_version_is_kept_for_a_rollback_and_older_ones_are_deleted() -> None:
    state = at_rest("3", "2", "1", stable_version="3", desired_version="3", stable_history=("2", "1"))
    found = turn(state, observe("3", mounted="3", exist=maps("1", "2", "3"), registry=RegistryView("3")))
    assert of_artifacts(found) == [DeleteArtifacts(("m-1-0", "m-1-1"))]
    assert [copy.version for copy in found.state.artifacts] == ["3", "2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"stable": StableView(True, "1", False, "t", config_maps=copy_of("1").config_maps)},
        {"canary": CanaryView("2", "t", 1, 1, config_maps=copy_of("2").config_maps)},
    ],
    ids=["pods are being replaced", "a canary mounts it"],
)
def test_nothing_is_deleted_that_a_pod_may_mount(changes: dict[str, Any]) -> None:
    found = turn(at_rest("1"), observe(mounted="1", exist=maps("1", "2"), **changes))
    assert not [action for action in found.actions if isinstance(action, DeleteArtifacts)]


def test_what_a_killed_operator_created_is_used_and_not_deleted() -> None:
    found = turn(at_rest(), observe(exist=maps("1")))
    assert of_artifacts(found) == [KeepArtifacts("1")]


def test_without_permission_to_list_configmaps_rollouts_go_by_the_registry() -> None:
    observed = observe(registry=RegistryView("2"), artifacts_error="upgrade the chart")
    rolling = turn(starting(), observed)
    assert of_artifacts(rolling) == [ApplyCanary("2", 1)]
    assert [event.reason for event in rolling.state.pending_events] == ["ArtifactsNotKept"]
    again = turn(rolling.state, observed, NOW + 1)
    assert again.state.artifacts_problem == rolling.state.artifacts_problem
    assert again.state.pending_events == rolling.state.pending_events
    resting = turn(at_rest("1"), replace(observed, registry=RegistryView("1")))
    assert of_artifacts(resting) == []


def test_a_problem_is_forgotten_once_the_files_are_kept_or_not_needed_anymore() -> None:
    known = problem("1", "TooLarge")
    assert (
        turn(at_rest("1", artifacts_problem=known), observe(mounted="1", exist=maps("1"))).state.artifacts_problem
        is None
    )
    other = at_rest("1", artifacts_problem=problem("9", "TooLarge"))
    assert turn(other, observe(mounted="1", exist=maps("1"))).state.artifacts_problem is None
    assert turn(at_rest(artifacts_problem=known), observe()).state.artifacts_problem == known


def test_a_problem_of_the_version_before_is_forgotten_once_the_next_one_is_stable() -> None:
    state = at_rest("2", stable_version="2", desired_version="2", stable_history=("1",),
                    artifacts_problem=problem("1", "TooLarge"))  # fmt: skip
    observed = observe("2", mounted="2", exist=maps("2"), registry=RegistryView("2"))
    assert turn(state, observed).state.artifacts_problem is None


def test_a_problem_is_an_event_once_and_keeps_the_time_it_began() -> None:
    first = with_problem(State(), "1", "RegistryUnavailable", "refused", NOW)
    again = with_problem(first, "1", "RegistryUnavailable", "timeout", NOW + 5)
    other = with_problem(again, "1", "TooLarge", "9 MiB", NOW + 10)
    assert [event.message for event in other.pending_events] == [
        "the files of version 1 could not be kept in the cluster: refused",
        "the files of version 1 could not be kept in the cluster: 9 MiB",
    ]
    assert again.artifacts_problem == ArtifactsProblem(
        version="1", reason="RegistryUnavailable", message="timeout", since=NOW, at=NOW + 5)  # fmt: skip
    assert other.artifacts_problem is not None
    assert other.artifacts_problem.since == NOW + 10


def test_a_rollback_returns_to_the_copy_of_the_stable_version() -> None:
    state = starting("1", "2", phase=Phase.ROLLING_BACK)
    found = turn(state, observe("2", mounted="2", exist=maps("1", "2"), registry=RegistryView("2")))
    assert of_artifacts(found) == [SetStableVersion("1", copy_of("1").config_maps)]
