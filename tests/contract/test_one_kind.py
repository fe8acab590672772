"""Models of numbers alone and of categories alone, from training to every protocol: the graph has one input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import onnxruntime
import pytest

from contract.trained import train_version
from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from trainer.data.synthetic import generate
from unit.scorer.protocols import PROTOCOLS, probabilities, sample

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
async def test_features_of_one_kind_train_and_score_in_every_protocol(kind: str, tmp_path: Path) -> None:
    files = train_version(tmp_path, generate(3_000, seed=6), {}, kinds=[kind])
    session = onnxruntime.InferenceSession(str(files / "model.onnx"))
    assert [tensor.name for tensor in session.get_inputs()] == [kind]
    model = load_model(files, Identity("credit-risk", "7", "run", {}, {}))
    names = [feature.name for feature in model.contract.features]
    loans = generate(20, seed=9)[names]
    rows: list[dict[str, Any]] = json.loads(loans.to_json(orient="records"))
    expected = np.ravel(mlflow.pyfunc.load_model(str(files)).predict(loans))
    assert len(set(expected)) > 5
    app = create_app(Settings(), ModelSlot(model), Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as client:
        for protocol in PROTOCOLS:
            form = sample(protocol, rows)
            headers = {"Content-Type": form.media_type, **form.headers}
            answer = await client.post(form.path, content=form.body, headers=headers)
            found = probabilities(protocol, answer)
            assert found == pytest.approx(expected[: len(found)].tolist(), abs=1e-6), protocol
        explained = await client.post("/v1/score?reasons=4", json=rows[0])
        assert explained.status_code == 200
