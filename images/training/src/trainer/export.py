"""Writes the model contract's files, and checks that the exported graph says what the network says."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime as ort
import torch

from trainer.data import Loans
from trainer.evaluation import HISTOGRAM_EDGES, Array
from trainer.features import CATEGORICAL, FEATURES, NUMERIC
from trainer.fit import predict
from trainer.network import Network

OUTPUT = "probability_of_default"
PARITY_TOLERANCE = 1e-5
PARITY_ROWS = 1000
OPSET = 18


class ExportError(RuntimeError):
    """The exported graph does not say what the network says."""


def write_model(network: Network, loans: Loans, folder: Path) -> None:
    """Write MLflow's ONNX model into `folder`: model.onnx, MLmodel and its requirements.

    Raises:
        ExportError: when ONNX and PyTorch differ by more than 1e-5 on up to 1,000 of the loans.
    """
    sample = loans.rows(np.arange(min(len(loans), PARITY_ROWS)))
    for chatty in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    rows = torch.export.Dim("rows", min=1)
    program = torch.onnx.export(
        network,
        (torch.from_numpy(sample.numeric), torch.from_numpy(sample.categorical)),
        input_names=["numeric", "categorical"],
        output_names=[OUTPUT],
        dynamic_shapes=({0: rows}, {0: rows}),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    mlflow.onnx.save_model(_without_traces(program.model_proto), str(folder), save_as_external_data=False)
    _check_parity(folder / "model.onnx", network, sample)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes on source lines, which would make the file depend on where the code lies."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    return model


def _check_parity(file: Path, network: Network, sample: Loans) -> None:
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (answered,) = session.run([OUTPUT], {"numeric": sample.numeric, "categorical": sample.categorical})
    gap = float(np.max(np.abs(answered - predict(network, sample))))
    if not gap <= PARITY_TOLERANCE:
        raise ExportError(f"ONNX and PyTorch differ by {gap:.2e} on {len(sample)} rows, allowed is {PARITY_TOLERANCE}")


def write_contract(file: Path, *, model_name: str, training: Loans, scores: Array, threshold: float) -> None:
    """Write contract.json, format version 1, as docs/model-contract.md describes it.

    Args:
        file: where to.
        model_name: the registered model's name.
        training: the rows that the reference applicant is taken from: medians and most frequent categories.
        scores: probabilities of default of the held-out test rows, for the reference histogram.
        threshold: the probability of default from which on an application is declined.
    """
    medians = np.median(training.numeric, axis=0)
    modes = [int(np.bincount(column).argmax()) for column in training.categorical.T]
    reference = {
        # Rounded as a person would write them; float32 digits beyond the seventh mean nothing.
        **{feature.name: float(f"{value:.6g}") for feature, value in zip(NUMERIC, medians, strict=True)},
        **{feature.name: feature.categories[code] for feature, code in zip(CATEGORICAL, modes, strict=True)},
    }
    counts, _ = np.histogram(scores, bins=HISTOGRAM_EDGES)
    document = {
        "format_version": 1,
        "model_name": model_name,
        "features": [asdict(feature) for feature in FEATURES],
        "reference_applicant": reference,
        "score_histogram": {"edges": HISTOGRAM_EDGES, "counts": counts.tolist()},
        "decision_threshold": threshold,
        "training_data_sha256": training.sha256,
    }
    file.write_text(json.dumps(document, indent=1))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
