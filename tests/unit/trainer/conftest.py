import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, load_declaration
from trainer.data.synthetic import generate
from trainer.evaluation.gates import GateLimits
from trainer.learning.hyperparameters import Hyperparameters
from trainer.settings import Settings


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def _restored_signal_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def declaration() -> FeatureDeclaration:
    return load_declaration(BUILT_IN_DECLARATION)


@pytest.fixture
def loans() -> pd.DataFrame:
    return generate(1_000, seed=1)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: creating its tables takes a second, copying it no time."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking_uri(tmp_path: Path, empty_store: Path) -> str:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a run of a few seconds, with limits that such a small model can meet."""
    monkeypatch.chdir(tmp_path)
    return Settings(
        data="synthetic",
        tracking_uri=tracking_uri,
        synthetic_rows=3_000,
        work_dir=tmp_path / "work",
        hyperparameters=Hyperparameters(heads=5, hidden=(16,), bins=8, batch_rows=64, epochs=6, learning_rate=0.01),
        limits=GateLimits(maximum_ece=0.2, minimum_air=0.0),
    )
