"""Training and serving over a real MLflow server: what one registers, the other serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from conftest import REPOSITORY, quick_training
from mlflow_server import mlflow_server
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.loader import keep_loading
from scorer.model.readiness import ArtifactRejectedError, RegistryUnavailableError, VersionNotFoundError
from scorer.model.registry import Registry
from scorer.model.version_cache import VersionCache
from scorer.settings import Settings
from trainer.data.synthetic import generate
from trainer.evaluation.gates import GateLimits
from trainer.pipeline import run

pytestmark = pytest.mark.slow
NAME = "credit-risk"
PROTECTED = ("gender", "marital_status")
LENDING_CLUB = REPOSITORY / "tests/data/lending_club_sample.csv"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that proxies artifacts, as in the cluster."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


@pytest.fixture(scope="module")
def version(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A version that a training run registered and put into Production."""
    result = run(quick_training(server, tmp_path_factory.mktemp("work")))
    assert result.version
    assert result.moved_pointer
    return result.version


@pytest.fixture
async def registry(server: str) -> AsyncIterator[Registry]:
    async with aiohttp.ClientSession() as session:
        yield Registry(session, server)


async def test_the_production_version_is_found_and_scores_as_in_mlflow(
    registry: Registry, version: str, tmp_path: Path
) -> None:
    found = await registry.find(NAME, version="", alias="production", stage="Production")
    assert found.identity.version == version
    assert found.identity.metrics["roc_auc"] > 0.7
    model = load_model(await registry.fetch(found, VersionCache(tmp_path)), found.identity)
    applications = generate(500, seed=5)[[feature.name for feature in model.contract.features]]
    rows = [model.decoder.decode(json.dumps(row).encode()) for row in applications.to_dict("records")]
    answered = model.network.score(
        np.concatenate([numeric for numeric, _ in rows]), np.concatenate([codes for _, codes in rows])
    )
    expected = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}").predict(applications)
    np.testing.assert_allclose(answered, np.asarray(expected).ravel(), atol=1e-6)


async def test_the_stage_is_used_if_the_alias_is_missing(registry: Registry, version: str) -> None:
    found = await registry.find(NAME, version="", alias="no-such-alias", stage="Production")
    assert found.identity.version == version


async def test_a_version_can_be_pinned(registry: Registry, version: str) -> None:
    assert (await registry.find(NAME, version=version, alias="", stage="")).identity.version == version


@pytest.mark.parametrize("name", ["credit-risk", "no-such-model"])
async def test_a_missing_version_is_not_taken_for_an_outage(registry: Registry, version: str, name: str) -> None:
    with pytest.raises(VersionNotFoundError, match=name):
        await registry.find(name, version="", alias="nobody", stage="Archived")
    with pytest.raises(VersionNotFoundError, match="version 999"):
        await registry.find(name, version="999", alias="", stage="")


async def test_files_that_do_not_match_their_digests_are_refused(
    registry: Registry, version: str, server: str, tmp_path: Path
) -> None:
    client = MlflowClient(server)
    true_digest = client.get_model_version(NAME, version).tags["sha256.model.onnx"]
    client.set_model_version_tag(NAME, version, "sha256.model.onnx", "0" * 64)
    try:
        found = await registry.find(NAME, version=version, alias="", stage="")
        with pytest.raises(ArtifactRejectedError, match="its tag says 0000"):
            await registry.fetch(found, VersionCache(tmp_path))
        assert list(tmp_path.iterdir()) == []
    finally:
        client.set_model_version_tag(NAME, version, "sha256.model.onnx", true_digest)


async def test_downloaded_files_are_not_downloaded_again(registry: Registry, version: str, tmp_path: Path) -> None:
    found = await registry.find(NAME, version=version, alias="", stage="")
    folder = await registry.fetch(found, VersionCache(tmp_path))
    async with aiohttp.ClientSession() as session:
        away = Registry(session, "http://127.0.0.1:1")
        assert await away.fetch(found, VersionCache(tmp_path)) == folder


async def test_an_unreachable_registry_is_an_outage() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RegistryUnavailableError, match=r"127\.0\.0\.1:1"):
            await Registry(session, "http://127.0.0.1:1").find(NAME, version="1", alias="", stage="")


async def test_a_pod_waits_for_a_model_reports_why_and_loads_it_once_it_exists(
    server: str, version: str, tmp_path: Path
) -> None:
    slot = ModelSlot()
    settings = Settings(model_alias="late", model_stage="None", cache_dir=tmp_path, retry_min_seconds=0.1)
    client = MlflowClient(server)
    async with aiohttp.ClientSession() as session:
        loading = asyncio.create_task(keep_loading(slot, Registry(session, server), settings))
        while "no version of credit-risk with the alias 'late'" not in (slot.not_ready or ""):
            await asyncio.sleep(0.05)
        client.set_registered_model_alias(NAME, "late", version)
        await asyncio.wait_for(loading, timeout=30)
    assert slot.model
    assert slot.not_ready is None


async def test_a_model_without_protected_attributes_replaces_one_with_them(
    registry: Registry, server: str, version: str, tmp_path: Path
) -> None:
    newer = run(replace(quick_training(server, tmp_path / "work", seed=1), exclude_protected=True))
    assert newer.replaced == version
    client = MlflowClient(server)
    assert client.get_model_version_by_alias(NAME, "production").version == newer.version
    assert client.get_model_version_by_alias(NAME, "previous").version == version
    assert client.get_model_version(NAME, str(newer.version)).current_stage == "Production"
    assert client.get_model_version(NAME, version).current_stage == "Archived"
    model = await served(registry, NAME, str(newer.version), tmp_path)
    assert not [feature.name for feature in model.contract.features if feature.protected]
    whole = generate(1, seed=5).drop(columns=["id", "loan_paid_back"]).to_dict("records")[0]
    reduced = {name: value for name, value in whole.items() if name not in PROTECTED}
    assert len(whole) - len(reduced) == 2
    from_whole, from_reduced = (
        model.network.score(*model.decoder.decode(json.dumps(application).encode()))[0]
        for application in (whole, reduced)
    )
    assert 0 < from_whole == from_reduced < 1


async def test_a_team_with_other_columns_changes_a_file_and_no_code(
    registry: Registry, server: str, tmp_path: Path
) -> None:
    other = replace(
        quick_training(server, tmp_path / "work"),
        data=str(LENDING_CLUB),
        features=LENDING_CLUB.with_name("lending_club_features.json"),
        model_name="lending-club",
        limits=GateLimits(minimum_auc=0.6, maximum_ece=0.2),
    )
    result = run(other)
    assert result.moved_pointer
    assert result.metrics["roc_auc"] > 0.62
    model = await served(registry, "lending-club", str(result.version), tmp_path)
    loans = pd.read_csv(LENDING_CLUB)
    names = [feature.name for feature in model.contract.features]
    rows = [model.decoder.decode(json.dumps(loan).encode()) for loan in loans[names].to_dict("records")]
    scores = model.network.score(np.concatenate([row for row, _ in rows]), np.concatenate([codes for _, codes in rows]))
    by_mlflow = mlflow.pyfunc.load_model(f"models:/lending-club/{result.version}").predict(loans)
    np.testing.assert_allclose(scores, np.asarray(by_mlflow).ravel(), atol=1e-6)
    assert scores[loans["Class"] == "bad"].mean() > 1.2 * scores[loans["Class"] == "good"].mean()


async def served(registry: Registry, name: str, version: str, folder: Path) -> Model:
    """The model as the service loads it."""
    found = await registry.find(name, version=version, alias="", stage="")
    return load_model(await registry.fetch(found, VersionCache(folder)), found.identity)
