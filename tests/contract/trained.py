"""A version trained for a few seconds on given loans, as both sides of the contract see it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from conftest import quick_training
from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.pipeline import run


def train_version(
    folder: Path,
    loans: pd.DataFrame,
    changes: Mapping[str, Mapping[str, Any]],
    kinds: Collection[str] = ("numeric", "categorical"),
) -> Path:
    """Train on loans with a changed built-in declaration, and return the folder of the registered version's files.

    Args:
        folder: Empty; data, registry and files are kept there.
        loans: Has the built-in features.
        changes: Fields to set in the declaration, by feature.
        kinds: The kinds of features to keep.
    """
    loans.to_csv(folder / "loans.csv", index=False)
    document = json.loads(BUILT_IN_DECLARATION.read_text("utf-8"))
    document["features"] = [
        {**feature, **changes.get(feature["name"], {})} for feature in document["features"] if feature["kind"] in kinds
    ]
    (folder / "features.json").write_text(json.dumps(document))
    tracking = f"sqlite:///{folder}/mlflow.db"
    settings = replace(
        quick_training(tracking, folder / "work"), data=str(folder / "loans.csv"), features=folder / "features.json"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        uri = f"models:/credit-risk/{run(settings).version}"
        return Path(mlflow.artifacts.download_artifacts(uri, tracking_uri=tracking))
