"""What tests of several kinds share: a small trained model, and where the real data is."""

from __future__ import annotations

import fcntl
import gc
from pathlib import Path

import hypothesis
import mlflow
import pytest
import torch

from trainer.evaluation.gates import GateLimits
from trainer.learning.hyperparameters import Hyperparameters
from trainer.pipeline import run
from trainer.settings import Settings

# `make test-fast` takes the first, `make test` the second. A busy machine is no reason to fail: no deadlines.
hypothesis.settings.register_profile("quick", max_examples=40, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=200, deadline=None)

# Imported libraries are a million objects that stay: looking through them for cycles took a quarter of the tests' time.
gc.set_threshold(100_000)

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_LOANS = REPOSITORY.parent / "shared" / "data" / "loans.csv"


def pytest_unconfigure() -> None:
    """Spare the end of the process the same look."""
    gc.freeze()


def quick_training(tracking_uri: str, folder: Path, *, seed: int = 0) -> Settings:
    """Settings of a training of a few seconds, with limits that a model so small can pass."""
    torch.set_num_threads(1)
    return Settings(
        data="synthetic",
        tracking_uri=tracking_uri,
        synthetic_rows=3_000,
        seed=seed,
        work_dir=folder,
        hyperparameters=Hyperparameters(heads=5, hidden=(16,), bins=8, batch_rows=64, epochs=6, learning_rate=0.01),
        limits=GateLimits(maximum_ece=0.2, minimum_air=0.0, margin=0.5),
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The files of a registered version, as training writes them; trained once for all workers of a run."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    files = shared / "trained"
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not files.exists():
            _train(tmp_path_factory.mktemp("training"), files)
    return files


def _train(folder: Path, files: Path) -> None:
    tracking = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        version = run(quick_training(tracking, folder / "work")).version
        uri = f"models:/credit-risk/{version}"
        Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=tracking)).rename(files)
