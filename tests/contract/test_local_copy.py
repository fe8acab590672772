"""A version in a local folder: written by the trainer, served by the scorer without a registry."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import quick_training
from scorer.model.artifact_copy import restore_copy
from scorer.model.bundle import load_model
from scorer.model.version_cache import VersionCache
from trainer.errors import GateRefusedError
from trainer.pipeline import run
from unit.scorer.contracts import validator


def test_what_the_trainer_writes_is_what_the_scorer_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = replace(quick_training(f"sqlite:///{tmp_path}/mlflow.db", tmp_path), output=tmp_path / "new" / "model")
    result = run(settings)
    validator("artifact-copy").validate(json.loads((tmp_path / "new/model/manifest.json").read_text()))
    restored = restore_copy(tmp_path / "new/model", VersionCache(tmp_path / "cache"), "credit-risk", "1")
    assert restored is not None
    identity, folder = restored
    assert (identity.version, identity.run_id) == (result.version, result.run_id)
    assert identity.metrics["roc_auc"] == pytest.approx(result.metrics["roc_auc"])
    assert load_model(folder, identity).contract.model_name == "credit-risk"
    refused = replace(settings, output=tmp_path / "refused", seed=3, limits=replace(settings.limits, minimum_auc=1.0))
    with pytest.raises(GateRefusedError):
        run(refused)
    assert not (tmp_path / "refused").exists()
