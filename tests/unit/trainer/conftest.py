import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from trainer.data.declaration import BUILT_IN_DECLARATION, FeatureDeclaration, load_declaration
from trainer.data.synthetic import generate


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def declaration() -> FeatureDeclaration:
    return load_declaration(BUILT_IN_DECLARATION)


@pytest.fixture
def loans() -> pd.DataFrame:
    return generate(1_000, seed=1)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without content: making its tables takes a second, copying it none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking_uri(tmp_path: Path, empty_store: Path) -> str:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"
