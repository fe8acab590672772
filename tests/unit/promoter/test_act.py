"""Copying a version's files: the status says where they are, or once why they are not, and the turn goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from promoter.api.status import ArtifactCopy, Phase, State
from promoter.decision.actions import SetStableVersion
from promoter.errors import ArtifactsError, ForbiddenError, RetryableError
from promoter.promotion import Promotion
from promoter.reconcile import reconcile
from unit.promoter.fakes import OWNER, Fakes, document, fakes_for


def resting(**changes: Any) -> Promotion:
    state = State(phase=Phase.IDLE, stable_version="1", desired_version="1", target="scoring")
    return Promotion(OWNER, document(), state.model_copy(update=changes))


@pytest.fixture
def fakes() -> Fakes:
    found = fakes_for()
    found.registry.version = "1"
    return found


async def test_a_copy_is_recorded_with_its_digests_and_then_mounted(fakes: Fakes) -> None:
    promotion = resting()
    await reconcile(fakes.adapters, promotion)
    expected = ArtifactCopy(version="1", digests={"model.onnx": "d" * 64}, config_maps=("scoring-model-1",))
    assert promotion.state.artifacts == (expected,)
    assert fakes.cluster.saved[-1]["artifacts"] == [
        {"version": "1", "digests": {"model.onnx": "d" * 64}, "configMaps": ["scoring-model-1"]}]  # fmt: skip
    await reconcile(fakes.adapters, promotion)
    assert fakes.cluster.stable_versions == [SetStableVersion("1", ("scoring-model-1",))]
    assert fakes.registry.downloads == ["1"]


async def test_an_operator_that_was_killed_before_it_saved_the_names_finds_the_same_copy(fakes: Fakes) -> None:
    await reconcile(fakes.adapters, resting())
    successor = resting()
    await reconcile(fakes.adapters, successor)
    assert [copy.config_maps for copy in successor.state.artifacts] == [("scoring-model-1",)]
    assert "delete_artifacts" not in fakes.cluster.calls


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(ArtifactsError("TooLarge", "9 MiB"), "TooLarge"), (ForbiddenError("403"), "Refused"),
     (RetryableError("503"), "RegistryUnavailable")],
)  # fmt: skip
async def test_a_failed_download_is_reported_once_and_not_repeated_at_every_turn(
    fakes: Fakes, fault: Exception, reason: str
) -> None:
    fakes.registry.download_fault = fault
    promotion = resting()
    for _ in range(3):
        await reconcile(fakes.adapters, promotion)
    saved = len(fakes.cluster.saved)
    for _ in range(3):
        await reconcile(fakes.adapters, promotion)
    assert len(fakes.cluster.saved) == saved
    assert fakes.registry.downloads == ["1"]
    problem = promotion.state.artifacts_problem
    assert problem is not None
    assert (problem.version, problem.reason, problem.message) == ("1", reason, str(fault))
    assert [(event.reason, event.type) for event in fakes.cluster.events] == [("ArtifactsNotKept", "Warning")]


async def test_configmaps_that_the_api_server_refuses_are_reported(fakes: Fakes) -> None:
    fakes.cluster.refuse = {"keep_artifacts"}
    promotion = resting()
    await reconcile(fakes.adapters, promotion)
    assert promotion.state.artifacts_problem is not None
    assert promotion.state.artifacts_problem.reason == "Refused"
    assert promotion.refusal == ""


async def test_an_api_server_that_does_not_answer_is_not_taken_for_the_registry(fakes: Fakes) -> None:
    fakes.cluster.fail = {"keep_artifacts"}
    promotion = resting()
    with pytest.raises(RetryableError, match="keep_artifacts: 500"):
        await reconcile(fakes.adapters, promotion)
    assert promotion.state.artifacts_problem is None


async def test_a_copy_after_a_problem_clears_it(fakes: Fakes) -> None:
    fakes.registry.download_fault = RetryableError("503")
    promotion = resting()
    await reconcile(fakes.adapters, promotion)
    fakes.registry.download_fault = None
    problem = promotion.state.artifacts_problem
    assert problem is not None
    promotion.state = promotion.state.model_copy(
        update={"artifacts_problem": problem.model_copy(update={"at": problem.at - 10})}
    )
    await reconcile(fakes.adapters, promotion)
    assert promotion.state.artifacts_problem is None
    assert [copy.version for copy in promotion.state.artifacts] == ["1"]


async def test_files_that_changed_together_with_their_tags_do_not_replace_a_lost_copy(fakes: Fakes) -> None:
    recorded = ArtifactCopy(version="1", digests={"model.onnx": "e" * 64}, config_maps=("lost",))
    promotion = resting(artifacts=(recorded,))
    await reconcile(fakes.adapters, promotion)
    problem = promotion.state.artifacts_problem
    assert problem is not None
    assert problem.reason == "Rejected"
    assert problem.message == f"model.onnx has SHA-256 {'d' * 64}, but {'e' * 64} when it was first copied"
    assert promotion.state.artifacts == (recorded,)
    assert "keep_artifacts" not in fakes.cluster.calls


async def test_one_copy_is_made_at_a_time_and_nobody_waits_for_it(fakes: Fakes) -> None:
    promotion = resting()
    async with fakes.adapters.copying:
        await asyncio.wait_for(reconcile(fakes.adapters, promotion), 1)
    assert fakes.registry.downloads == []
    await reconcile(fakes.adapters, promotion)
    assert fakes.registry.downloads == ["1"]
