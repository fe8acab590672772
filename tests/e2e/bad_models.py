"""Model versions that are bad in one way each, made from the champion's own files and registered like any other."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import onnx
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

OUTPUT, CHAMPION = "probability_of_default", "probability_of_the_champion"
Contract = dict[str, Any]


@dataclass
class Files:
    """What a version consists of, open for changes; `tags` replace those that tell the truth."""

    graph: onnx.ModelProto
    contract: Contract
    tags: dict[str, str]

    @property
    def reference(self) -> list[float]:
        """Return the reference applicant's numeric columns."""
        numeric = [feature["name"] for feature in self.contract["features"] if feature["kind"] == "numeric"]
        return [float(self.contract["reference_applicant"][name]) for name in numeric]

    def append(self, nodes: list[onnx.NodeProto], **constants: npt.ArrayLike) -> None:
        """Let nodes make the output from what the champion says."""
        graph = self.graph.graph
        for node in graph.node:
            for index, name in enumerate(node.output):
                if name == OUTPUT:
                    node.output[index] = CHAMPION
            for index, name in enumerate(node.input):
                if name == OUTPUT:
                    node.input[index] = CHAMPION
        graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
        graph.node.extend(nodes)


def good(files: Files) -> None:
    """The champion's files under another number."""


def drifted(files: Files) -> None:
    """Scores move close to the threshold, but none crosses it: only the distribution tells."""
    files.append(
        [
            helper.make_node("Div", [CHAMPION, "limit"], ["relative"]),
            helper.make_node("Pow", ["relative", "exponent"], ["bent"]),
            helper.make_node("Mul", ["bent", "limit"], ["raised"]),
            helper.make_node("Less", [CHAMPION, "limit"], ["approved"]),
            helper.make_node("Where", ["approved", "raised", CHAMPION], [OUTPUT]),
        ],
        limit=np.float32(files.contract["decision_threshold"]),
        exponent=np.float32(0.1),
    )


def shifted(files: Files) -> None:
    """The same scores, another threshold: only the decisions tell."""
    files.contract["decision_threshold"] /= 10


def slow(files: Files) -> None:
    """Answers right, but only after multiplying large matrices."""
    files.append(
        [
            helper.make_node("Mul", [CHAMPION, "nothing"], ["zeros"]),
            helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Expand", ["zero", "shape"], ["matrix-0"]),
            *(helper.make_node("MatMul", [f"matrix-{n}", f"matrix-{n}"], [f"matrix-{n + 1}"]) for n in range(2)),
            helper.make_node("ReduceSum", ["matrix-2"], ["sum"], keepdims=0),
            helper.make_node("Add", [CHAMPION, "sum"], [OUTPUT]),
        ],
        nothing=np.float32(0),
        shape=np.array([1000, 1000], np.int64),
    )


def failing(files: Files) -> None:
    """Answers the reference applicant, and nobody else: an index beyond the end of a table."""
    files.append(
        [
            *_stranger(),
            helper.make_node("Gather", ["table", "stranger"], ["nothing"]),
            helper.make_node("Add", [CHAMPION, "nothing"], [OUTPUT]),
        ],
        reference=np.array(files.reference, np.float32),
        table=np.zeros(1, np.float32),
    )


def hungry(files: Files) -> None:
    """Takes more memory than its pod may have, at the first score."""
    files.append(_memory("everybody"), everybody=np.int64(1), gigabyte=np.int64(300_000_000), one=np.ones(1, np.int64),
                 zero=np.float32(0))  # fmt: skip


def bursting(files: Files) -> None:
    """Takes more memory than its pod may have, at the first score of a real applicant."""
    files.append([*_stranger(), *_memory("stranger")], reference=np.array(files.reference, np.float32),
                 gigabyte=np.int64(300_000_000), one=np.ones(1, np.int64), zero=np.float32(0))  # fmt: skip


def corrupt(files: Files) -> None:
    """The registry promises another file than the store has."""
    files.tags["sha256.model.onnx"] = "0" * 64


def misfitting(files: Files) -> None:
    """Asks for a field that no client sends."""
    renamed = files.contract["features"][0]
    value = files.contract["reference_applicant"].pop(renamed["name"])
    renamed["name"] = f"{renamed['name']}_after_tax"
    files.contract["reference_applicant"][renamed["name"]] = value


def _stranger() -> list[onnx.NodeProto]:
    """Make `stranger`: 0 for the reference applicant, 1 for everybody else."""
    return [
        helper.make_node("Sub", ["numeric", "reference"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distances"]),
        helper.make_node("ReduceSum", ["distances"], ["distance"], keepdims=0),
        helper.make_node("Cast", ["distance"], ["strange"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["strange"], ["stranger"], to=TensorProto.INT64),
    ]


def _memory(switch: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", [switch, "gigabyte"], ["length"]),
        helper.make_node("Add", ["length", "one"], ["lengths"]),
        helper.make_node("Mul", [CHAMPION, "zero"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["seed"], keepdims=0),
        helper.make_node("Expand", ["seed", "lengths"], ["heap"]),
        helper.make_node("ReduceSum", ["heap"], ["nothing"], keepdims=0),
        helper.make_node("Add", [CHAMPION, "nothing"], [OUTPUT]),
    ]


class Shelf:
    """Makes, uploads and registers versions; each kind is uploaded once and may be registered for many models."""

    def __init__(self, client: MlflowClient, champion: Path, folder: Path) -> None:
        """Take a client, the champion's files, and where to put the new ones."""
        self._client, self._champion, self._folder = client, champion, folder
        self._experiment = client.create_experiment(f"bad models {uuid.uuid4().hex[:8]}")
        self._stored: dict[str, tuple[str, str, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def register(self, model: str, make: Callable[[Files], None]) -> str:
        """Register another version of a model, of the kind that `make` makes, and return its number."""
        with self._lock:
            if make.__name__ not in self._stored:
                self._stored[make.__name__] = self._store(make)
        source, run_id, tags = self._stored[make.__name__]
        return str(self._client.create_model_version(model, source, run_id, tags=tags).version)

    def _store(self, make: Callable[[Files], None]) -> tuple[str, str, dict[str, str]]:
        contract = json.loads((self._champion / "contract.json").read_text())
        files = Files(onnx.load(str(self._champion / "model.onnx")), contract, {})
        make(files)
        folder = self._folder / make.__name__
        folder.mkdir()
        onnx.save(files.graph, str(folder / "model.onnx"))
        (folder / "contract.json").write_text(json.dumps(files.contract))
        digests = {
            f"sha256.{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()
        }  # fmt: skip
        run = self._client.create_run(self._experiment, run_name=make.__name__)
        self._client.log_artifacts(run.info.run_id, str(folder), "model")
        return f"{run.info.artifact_uri}/model", run.info.run_id, {**digests, **files.tags}


def download(folder: Path) -> Path:
    """Return a folder with the files of the production version."""
    return Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production", dst_path=str(folder)))
