"""Loading at start: retries with readiness codes until the registry has a version that can be served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from scorer.app import create_management_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.model.loader import keep_loading
from scorer.model.readiness import (
    ArtifactRejectedError,
    LoadingError,
    ModelError,
    ReadinessCode,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from scorer.model.registry import Version
from scorer.model.version_cache import VersionCache
from scorer.settings import Settings
from unit.scorer.contracts import agreement, validator

VERSION = Version(Identity("credit-risk", "4", "run", {}, {}), "mlflow-artifacts:/4")
ERRORS = [RegistryUnavailableError, VersionNotFoundError, ArtifactRejectedError, ModelError]


class FailingRegistry:
    """Raises one error after another, and then has a version."""

    def __init__(self, folder: Path, *errors: Exception) -> None:
        self.folder, self.errors = folder, list(errors)
        self.attempts: list[float] = []

    async def find(self, name: str, *, version: str, alias: str, stage: str) -> Version:
        self.attempts.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return VERSION

    async def fetch(self, version: Version, cache: VersionCache) -> Path:
        return self.folder


def settings(**changed: float) -> Settings:
    return Settings(**{"retry_min_seconds": 0.02, "retry_max_seconds": 0.1, **changed})  # type: ignore[arg-type]


async def readyz(slot: ModelSlot) -> httpx.Response:
    transport = httpx.ASGITransport(create_management_app(slot, Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://management") as http:
        return await http.get("/readyz")


@pytest.mark.parametrize("error", ERRORS)
async def test_while_it_retries_the_slot_has_the_errors_code_and_reason(
    model_folder: Path, error: type[LoadingError]
) -> None:
    slot = ModelSlot()
    registry = FailingRegistry(model_folder, *[error("what went wrong")] * 1000)
    loading = asyncio.create_task(keep_loading(slot, registry, settings()))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        while slot.readiness == ReadinessCode.STARTING:
            await asyncio.sleep(0.01)
    assert (slot.readiness, slot.not_ready) == (error.code, "what went wrong")
    loading.cancel()


async def test_it_loads_as_soon_as_the_registry_has_a_version(model_folder: Path) -> None:
    slot = ModelSlot()
    registry = FailingRegistry(model_folder, *(error("not yet") for error in ERRORS))
    await asyncio.wait_for(keep_loading(slot, registry, settings()), 10)  # type: ignore[arg-type]
    assert slot.model
    assert slot.model.identity == VERSION.identity
    assert (slot.readiness, slot.not_ready) == (ReadinessCode.READY, None)


async def test_pauses_grow_up_to_the_maximum(model_folder: Path) -> None:
    registry = FailingRegistry(model_folder, *[RegistryUnavailableError("down")] * 6)
    await asyncio.wait_for(keep_loading(ModelSlot(), registry, settings()), 10)  # type: ignore[arg-type]
    pauses = [after - before for before, after in zip(registry.attempts, registry.attempts[1:], strict=False)]
    for pause, least in zip(pauses, [0.02, 0.04, 0.08, 0.1, 0.1, 0.1], strict=True):
        assert least <= pause + 0.005


async def test_an_unexpected_error_is_not_retried(model_folder: Path) -> None:
    registry = FailingRegistry(model_folder, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await keep_loading(ModelSlot(), registry, settings())  # type: ignore[arg-type]


def test_the_codes_are_the_agreed_ones() -> None:
    assert set(ReadinessCode) == {code["code"] for code in agreement("readiness-codes.json")["codes"]}


@pytest.mark.parametrize(
    "slot",
    [ModelSlot(), ModelSlot(draining=True), *(ModelSlot(code=error.code, reason="why") for error in ERRORS)],
    ids=lambda slot: slot.readiness,
)
async def test_readyz_answers_with_the_code_as_agreed(slot: ModelSlot) -> None:
    answer = await readyz(slot)
    assert answer.status_code == 503
    assert answer.json()["code"] == slot.readiness
    assert answer.json()["detail"] == f"not ready: {slot.not_ready}"
    assert validator("readiness").is_valid(answer.json())


async def test_readyz_of_a_pod_with_a_model_is_the_golden_answer(model_folder: Path) -> None:
    answer = await readyz(ModelSlot(load_model(model_folder, VERSION.identity)))
    assert (answer.status_code, answer.json()) == (200, agreement("golden/readiness-ready.json"))


async def test_a_rejected_artifact_gets_the_golden_answer() -> None:
    golden = agreement("golden/readiness-artifact-rejected.json")
    reason = golden["detail"].removeprefix("not ready: ")
    answer = await readyz(ModelSlot(code=ReadinessCode.ARTIFACT_REJECTED, reason=reason))
    assert answer.json() == golden
