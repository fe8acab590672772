"""A decision's whole life: trained, registered in MLflow, scored, shipped, archived, retired there, and replayed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import mlflow
import pytest

from conftest import quick_training
from mlflow_server import mlflow_server
from scorer.model.bundle import Model, load_model
from scorer.model.registry import Registry
from scorer.model.version_cache import VersionCache
from trainer.data.synthetic import generate
from trainer.pipeline import run
from unit.decisions.replay.chain import Chain, ask_again, replayed
from unit.decisions.replay.fixtures import chain, empty_now, store
from unit.decisions.replay.registry import MlflowServer

__all__ = ["chain", "empty_now", "store"]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[MlflowServer]:
    """A real MLflow, in the place of the one that the unit tests use."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    with mlflow_server(folder) as url:
        yield MlflowServer(url)


async def served(url: str, version: str, cache: Path) -> Model:
    """Load a version as a scoring pod does."""
    async with aiohttp.ClientSession() as session:
        found = Registry(session, url)
        known = await found.find("credit-risk", version=version, alias="", stage="")
        return load_model(await found.fetch(known, VersionCache(cache)), known.identity)


async def test_a_retired_version_replays_from_the_archive(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chain.registry_url
    monkeypatch.chdir(tmp_path)
    number = str((await asyncio.to_thread(run, quick_training(chain.registry_url, tmp_path / "work"))).version)
    model = await served(chain.registry_url, number, tmp_path / "cache")
    loans = generate(6, seed=9).to_dict("records")
    rows = [{name: row[name] for name in model.contract.reference_applicant} for row in loans]
    decisions = await chain.decide(model, rows)
    service = await chain.serve()
    for decision in decisions:
        found = await replayed(service, decision)
        assert (found["same"], found["artifacts"]["model.onnx"]) == (True, "registry"), found
    chain.archive()
    client = mlflow.MlflowClient(chain.registry_url)
    client.delete_registered_model("credit-risk")
    shutil.rmtree(tmp_path / "mlflow" / "artifacts")
    for decision in decisions:
        found = await replayed(await chain.serve(), decision)
        assert (found["same"], found["artifacts"]["model.onnx"]) == (True, "archive"), found
    answer = await ask_again(await chain.serve(s3_bucket=None), decisions[0])
    assert (answer.status_code, "tried: registry: not there" in answer.text) == (424, True)
