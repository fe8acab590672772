"""A version's life: registered in MLflow, served, archived, deleted there; its decisions replay all the while."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import mlflow
import pytest

from mlflow_server import mlflow_server
from scorer.model.bundle import Model, load_model
from scorer.model.registry import Registry
from scorer.model.version_cache import VersionCache
from trainer.data.synthetic import generate
from unit.decisions.replay.chain import Chain, ask_again, digest_of, replayed
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


def register(url: str, folder: Path) -> str:
    """Register files as training does, and return the version's number."""
    client = mlflow.MlflowClient(url)
    run = client.create_run(client.create_experiment("replay"))
    client.create_registered_model("credit-risk")
    files = [folder / name for name in ("model.onnx", "contract.json")]
    for file in files:
        client.log_artifact(run.info.run_id, str(file), "model")
    tags = {f"sha256.{file.name}": digest_of(file) for file in files}
    source = f"{run.info.artifact_uri}/model"
    return str(client.create_model_version("credit-risk", source, run.info.run_id, tags=tags).version)


async def test_a_retired_version_replays_from_the_archive(
    chain: Chain, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chain.registry_url
    monkeypatch.setenv("MLFLOW_TRACKING_URI", chain.registry_url)
    model = await served(chain.registry_url, register(chain.registry_url, model_folder), tmp_path / "cache")
    loans = generate(6, seed=9).to_dict("records")
    names = list(model.contract.reference_applicant)
    decisions = await chain.decide(model, [{name: row[name] for name in names} for row in loans])
    service = await chain.serve()
    for decision in decisions:
        found = await replayed(service, decision)
        assert (found["same"], found["artifacts"]["model.onnx"]) == (True, "registry"), found
    chain.archive()
    mlflow.MlflowClient(chain.registry_url).delete_registered_model("credit-risk")
    shutil.rmtree(tmp_path / "mlflow" / "artifacts")
    service = await chain.serve()
    for decision in decisions:
        found = await replayed(service, decision)
        assert (found["same"], found["artifacts"]["model.onnx"]) == (True, "archive"), found
    answer = await ask_again(await chain.serve(s3_bucket=None), decisions[0])
    assert (answer.status_code, "tried: registry: not there" in answer.text) == (424, True)
