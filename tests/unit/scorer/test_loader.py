"""Loading at start: the copy in the cluster, the registry, what the pod had before; retries with readiness codes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from hashlib import sha256
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
from scorer.model.version_cache import FILES, VersionCache
from scorer.settings import Settings
from unit.scorer.contracts import agreement, validator

VERSION = Version(Identity("credit-risk", "4", "run", {}, {}), "mlflow-artifacts:/4")
ERRORS: list[type[LoadingError]] = [RegistryUnavailableError, VersionNotFoundError, ArtifactRejectedError, ModelError]


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


def settings(**changed: object) -> Settings:
    return Settings(**{"retry_min_seconds": 0.02, "retry_max_seconds": 0.1, **changed})  # type: ignore[arg-type]


class Outage(FailingRegistry):
    """A registry that never answers with a version."""

    def __init__(self, error: Exception) -> None:
        super().__init__(Path(), *[error] * 1000)


@dataclass
class Pod:
    """A pod's volumes, with the files of version 4 as the operator and the registry have them."""

    folder: Path
    files: dict[str, bytes]

    @property
    def identity(self) -> Identity:
        digests = {name: sha256(content).hexdigest() for name, content in self.files.items()}
        return Identity("credit-risk", "4", "run", digests, {})

    @property
    def cache(self) -> VersionCache:
        return VersionCache(self.folder / "cache")

    def mount_copy(self, *, version: str = "4", broken: bool = False) -> None:
        volume = self.folder / "copy"
        volume.mkdir()
        pieces = {name: [f"{name}.000"] for name in self.files}
        identity = self.identity
        manifest = {"name": identity.name, "version": version, "run_id": "run", "digests": identity.digests,
                    "metrics": {}, "files": pieces}  # fmt: skip
        (volume / "manifest.json").write_text(json.dumps(manifest))
        for name, content in self.files.items():
            (volume / f"{name}.000").write_bytes(b"other" if broken else content)

    def settings(self, version: str = "4") -> Settings:
        return settings(model_version=version, artifacts_dir=self.folder / "copy", cache_dir=self.folder / "cache")

    async def load(self, registry: FailingRegistry, version: str = "4") -> ModelSlot:
        """Return the slot once it has a model, or the reason why it has none."""
        slot = ModelSlot()
        loading = asyncio.create_task(keep_loading(slot, registry, self.settings(version)))  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            while not loading.done() and slot.readiness == ReadinessCode.STARTING:
                await asyncio.sleep(0.01)
        if not loading.done():
            loading.cancel()
            return slot
        await loading
        return slot


@pytest.fixture
def pod(tmp_path: Path, model_folder: Path) -> Pod:
    return Pod(tmp_path, {name: (model_folder / name).read_bytes() for name in FILES})


DOWN = RegistryUnavailableError("refused")


async def test_a_pod_with_a_copy_of_its_version_does_not_ask_the_registry(pod: Pod) -> None:
    pod.mount_copy()
    registry = Outage(DOWN)
    slot = await pod.load(registry)
    assert slot.model
    assert (slot.model.identity, registry.attempts) == (pod.identity, [])


async def test_a_copy_of_another_version_is_ignored(pod: Pod, model_folder: Path) -> None:
    pod.mount_copy(version="3")
    registry = FailingRegistry(model_folder)
    slot = await pod.load(registry)
    assert slot.model
    assert (slot.model.identity, len(registry.attempts)) == (VERSION.identity, 1)


async def test_a_broken_copy_is_reported_and_the_registry_is_asked(
    pod: Pod, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pod.mount_copy(broken=True)
    registry = FailingRegistry(model_folder)
    slot = await pod.load(registry)
    assert slot.model
    assert slot.model.identity == VERSION.identity
    assert "of the copy of version 4 of credit-risk in the cluster has SHA-256" in caplog.text
    assert "trying the registry" in caplog.text


async def test_a_broken_copy_is_never_served_and_is_the_reason_while_the_registry_is_down(pod: Pod) -> None:
    pod.mount_copy(broken=True)
    slot = await pod.load(Outage(DOWN))
    assert slot.model is None
    assert slot.code == ReadinessCode.ARTIFACT_REJECTED
    assert "the operator recorded" in slot.reason


@pytest.mark.parametrize("version", ["4", ""])
async def test_a_restarted_container_serves_what_its_pod_verified_before_while_the_registry_is_down(
    pod: Pod, version: str
) -> None:
    pod.cache.store(pod.identity, pod.files)
    slot = await pod.load(Outage(DOWN), version)
    assert slot.model
    assert slot.model.identity == pod.identity


async def test_a_pod_does_not_serve_another_version_than_its_own_from_before(pod: Pod) -> None:
    pod.cache.store(pod.identity, pod.files)
    slot = await pod.load(Outage(DOWN), "5")
    assert (slot.model, slot.code) == (None, ReadinessCode.REGISTRY_UNAVAILABLE)


async def test_a_version_that_was_deleted_in_the_registry_is_served_from_before_but_no_deleted_pointer(
    pod: Pod,
) -> None:
    pod.cache.store(pod.identity, pod.files)
    gone = VersionNotFoundError("no version 4")
    assert (await pod.load(Outage(gone), "4")).model
    slot = await pod.load(Outage(gone), "")
    assert (slot.model, slot.code) == (None, ReadinessCode.VERSION_NOT_FOUND)


async def test_files_on_the_pods_disk_that_changed_are_not_served(pod: Pod) -> None:
    (pod.cache.store(pod.identity, pod.files) / "model.onnx").write_bytes(b"other")
    assert (await pod.load(Outage(DOWN))).model is None


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
