"""Model versions with one fault each, made from the champion's files and registered like any other version."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import onnx
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from onnx import TensorProto, helper, numpy_helper

OUTPUT, CHAMPION = "probability_of_default", "probability_of_the_champion"
# As many float32 values take more memory than a scoring pod may have.
GIGABYTE_VALUES = 300_000_000
Contract = dict[str, Any]


@dataclass
class Files:
    """The files of a version, open for changes; `tags` override the registry tags that would be correct."""

    graph: onnx.ModelProto
    contract: Contract
    tags: dict[str, str]

    @property
    def reference(self) -> list[float]:
        """Return the reference applicant's numeric columns."""
        numeric = [feature["name"] for feature in self.contract["features"] if feature["kind"] == "numeric"]
        return [float(self.contract["reference_applicant"][name]) for name in numeric]

    def append(self, nodes: list[onnx.NodeProto], **constants: npt.ArrayLike) -> None:
        """Let nodes compute the output from CHAMPION, the champion's PD."""
        graph = self.graph.graph
        for node in graph.node:
            _rename(node, OUTPUT, CHAMPION)
        graph.initializer.extend(_initializers(constants))
        graph.node.extend(nodes)

    def prepend(self, nodes: list[onnx.NodeProto], source: str, replacement: str, **constants: npt.ArrayLike) -> None:
        """Let nodes compute `replacement`, which the champion's graph reads instead of its input `source`."""
        graph = self.graph.graph
        champion = list(graph.node)
        for node in champion:
            _rename(node, source, replacement)
        graph.initializer.extend(_initializers(constants))
        # A graph's nodes are sorted: each reads only what earlier ones made.
        del graph.node[:]
        graph.node.extend([*nodes, *champion])


def _rename(node: onnx.NodeProto, old: str, new: str) -> None:
    for values in (node.input, node.output):
        for index, name in enumerate(values):
            if name == old:
                values[index] = new


def _initializers(constants: Mapping[str, npt.ArrayLike]) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]


def good(files: Files) -> None:
    """The champion's files under a new version number."""


def drifted(files: Files) -> None:
    """Move scores close to the threshold without crossing it: only the distribution shows the fault."""
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
    """Keep the scores and lower the threshold: only the decisions show the fault."""
    files.contract["decision_threshold"] /= 10


def slow(files: Files) -> None:
    """Answer correctly, but only after multiplying large matrices."""
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
    """Score nobody but the reference applicant: all others lead to an index beyond the end of a table."""
    files.append(
        [
            *_stranger(),
            helper.make_node("Gather", ["table", "stranger"], ["nothing"]),
            helper.make_node("Add", [CHAMPION, "nothing"], [OUTPUT]),
        ],
        reference=np.array(files.reference, np.float32),
        table=np.zeros(1, np.float32),
    )


def crashing_at_startup(files: Files) -> None:
    """Exceed the pod's memory limit at the first score, which is the reference applicant's."""
    files.append(_memory("everybody"), everybody=np.int64(1), gigabyte=np.int64(GIGABYTE_VALUES),
                 one=np.ones(1, np.int64), zero=np.float32(0))  # fmt: skip


def crashing_on_requests(files: Files) -> None:
    """Exceed the pod's memory limit at the first score of a real applicant."""
    files.append([*_stranger(), *_memory("stranger")], reference=np.array(files.reference, np.float32),
                 gigabyte=np.int64(GIGABYTE_VALUES), one=np.ones(1, np.int64), zero=np.float32(0))  # fmt: skip


def corrupt(files: Files) -> None:
    """Let the registry promise another file than the object store holds."""
    files.tags["sha256.model.onnx"] = "0" * 64


def requiring_a_new_field(files: Files) -> None:
    """Rename a feature, so that the model needs a field that no client sends."""
    renamed = files.contract["features"][0]
    value = files.contract["reference_applicant"].pop(renamed["name"])
    renamed["name"] = f"{renamed['name']}_after_tax"
    files.contract["reference_applicant"][renamed["name"]] = value


def dropping_a_field(files: Files) -> None:
    """Drop the last categorical feature without listing it under `ignored`, though clients send it."""
    categorical = [feature for feature in files.contract["features"] if feature["kind"] == "categorical"]
    dropped = categorical[-1]
    files.contract["features"].remove(dropped)
    code = dropped["categories"].index(files.contract["reference_applicant"].pop(dropped["name"]))
    (given,) = (given for given in files.graph.graph.input if given.name == "categorical")
    given.type.tensor_type.shape.dim[1].dim_value = len(categorical) - 1
    # The champion's graph still needs the column: it gets the reference applicant's category in every row.
    files.prepend(
        [helper.make_node("Pad", ["categorical", "column_after", "code"], ["all-categorical"], mode="constant")],
        "categorical",
        "all-categorical",
        column_after=np.array([0, 0, 0, 1], np.int64),
        code=np.int64(code),
    )


def _stranger() -> list[onnx.NodeProto]:
    """Compute `stranger`: 0 for the reference applicant, 1 for everybody else."""
    return [
        helper.make_node("Sub", ["numeric", "reference"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distances"]),
        helper.make_node("ReduceSum", ["distances"], ["distance"], keepdims=0),
        helper.make_node("Cast", ["distance"], ["strange"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["strange"], ["stranger"], to=TensorProto.INT64),
    ]


def _memory(switch: str) -> list[onnx.NodeProto]:
    """Allocate `gigabyte` floats where `switch` is 1, and leave the champion's PD as it is."""
    return [
        helper.make_node("Mul", [switch, "gigabyte"], ["length"]),
        helper.make_node("Add", ["length", "one"], ["lengths"]),
        helper.make_node("Mul", [CHAMPION, "zero"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["seed"], keepdims=0),
        helper.make_node("Expand", ["seed", "lengths"], ["heap"]),
        helper.make_node("ReduceSum", ["heap"], ["nothing"], keepdims=0),
        helper.make_node("Add", [CHAMPION, "nothing"], [OUTPUT]),
    ]


@dataclass(frozen=True)
class _Stored:
    """Files of one kind in the artifact store, and what a version made of them needs."""

    source: str
    run_id: str
    tags: dict[str, str]


class VersionPublisher:
    """Makes, uploads and registers versions; each kind is uploaded once and can be registered for many models."""

    def __init__(self, client: MlflowClient, champion: Path, folder: Path) -> None:
        """Take a registry client, the folder of the champion's files, and a folder for the files to make."""
        self._client, self._champion, self._folder = client, champion, folder
        self._experiment = client.create_experiment(f"versions of the end-to-end tests {uuid.uuid4().hex[:8]}")
        self._stored: dict[str, _Stored] = {}
        self._lock = threading.Lock()

    def register(self, model: str, make: Callable[[Files], None]) -> str:
        """Register a new version of a model with the files that `make` changes, and return its number."""
        with self._lock:
            if make.__name__ not in self._stored:
                self._stored[make.__name__] = self._store(make)
        stored = self._stored[make.__name__]
        return str(self._client.create_model_version(model, stored.source, stored.run_id, tags=stored.tags).version)

    def delete_artifacts(self, version: ModelVersion) -> None:
        """Delete a version's files from the artifact store; later versions of this kind get files of their own."""
        with self._lock:
            self._stored = {name: kept for name, kept in self._stored.items() if kept.run_id != version.run_id}
        assert version.source
        get_artifact_repository(version.source).delete_artifacts()  # type: ignore[no-untyped-call]

    def _store(self, make: Callable[[Files], None]) -> _Stored:
        contract = json.loads((self._champion / "contract.json").read_text())
        files = Files(onnx.load(str(self._champion / "model.onnx")), contract, {})
        make(files)
        folder = self._folder / make.__name__
        folder.mkdir(exist_ok=True)
        onnx.save(files.graph, str(folder / "model.onnx"))
        (folder / "contract.json").write_text(json.dumps(files.contract))
        digests = {f"sha256.{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        run = self._client.create_run(self._experiment, run_name=make.__name__)
        self._client.log_artifacts(run.info.run_id, str(folder), "model")
        return _Stored(f"{run.info.artifact_uri}/model", run.info.run_id, {**digests, **files.tags})


def download_production(folder: Path) -> Path:
    """Return a folder with the files of the stack's Production version."""
    return Path(mlflow.artifacts.download_artifacts("models:/credit-risk@production", dst_path=str(folder)))
