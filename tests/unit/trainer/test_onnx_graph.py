"""The exported graph: the network's own scores, from fewer steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from trainer.export.onnx_graph import export_onnx
from trainer.learning.network import Architecture, CalibratedNetwork, Encoding, RiskNetwork

LIMITS = [[-1e9, -1e9, -1e9], [1e9, 1e9, 1e9], [0, 0, 0]]


def calibrated(
    rows: npt.NDArray[np.float32], categories: tuple[int, ...], hidden: tuple[int, ...]
) -> CalibratedNetwork:
    torch.manual_seed(0)
    # In these tests, a feature with four categories is an ordered one.
    encoding = Encoding.fit(rows, categories, tuple(count == 4 for count in categories), bins=4)
    network = RiskNetwork(encoding, Architecture(heads=3, hidden=hidden, bins=4, dropout=0.1))
    return CalibratedNetwork(network, slope=0.9, intercept=0.1).eval()


@pytest.mark.parametrize(
    ("numeric", "categories", "hidden"),
    [
        (2, (3, 4), (8,)), (2, (4, 3, 3), (8, 6)), (2, (), (8, 8, 4)), (0, (3,), (8, 8)), (0, (4, 4), (5,)),
        # More combinations than fit into one table, and a number with two values, which has fewer bins.
        (3, (30, 4, 3, 9), (8, 6)),
    ],
)  # fmt: skip
def test_the_exported_graph_scores_like_the_network(
    numeric: int, categories: tuple[int, ...], hidden: tuple[int, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1, 50_000, 1], np.float32)[:numeric]
    known = rng.normal(3, size=(50, numeric)).astype(np.float32) * scale
    known[:, 2:] = known[:, 2:] > 3
    network = calibrated(known, categories, hidden)
    export_onnx(network, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]

    # Rows like the known ones, exactly at the edges of bins, and far outside.
    rows = np.concatenate([known * 1.01, known, np.array(LIMITS, np.float32)[:, :numeric]])
    positions = np.zeros((len(rows), len(categories)), np.int64)
    for column, count in enumerate(categories):
        positions[:, column] = rng.integers(0, count, len(rows))
    feeds: dict[str, npt.NDArray[Any]] = {"numeric": rows, "categorical": positions}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    wanted = {item.name for item in session.get_inputs()}
    assert wanted == {name for name, array in feeds.items() if array.shape[1]}
    for count in (1, len(rows)):
        (scores,) = session.run(None, {name: feeds[name][:count] for name in wanted})
        with torch.no_grad():
            expected = network(*(torch.from_numpy(feeds[name][:count]) for name in ("numeric", "categorical"))).numpy()
        assert scores == pytest.approx(expected, abs=1e-6)
        assert scores.shape == (count,)


def test_the_file_does_not_reveal_the_machine_that_wrote_it(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    export_onnx(calibrated(rows, (3,), (8,)), tmp_path / "model.onnx")
    written = (tmp_path / "model.onnx").read_bytes()
    assert str(tmp_path).encode() not in written
    assert b"network.py" not in written
    assert b"folding.py" not in written


def test_features_with_few_categories_share_a_table(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    export_onnx(calibrated(rows, (3, 4, 5, 5, 8, 30), (8, 4)), tmp_path / "model.onnx")
    sizes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert sizes["network.strides"] == (6, 3)
    # Three heads of eight units each, plus one unit that is always one.
    assert sizes["network.table"] == (3 * 4 * 5 + 5 * 8 + 30, 3 * (8 + 1))


def test_categories_are_looked_up_instead_of_encoded(tmp_path: Path) -> None:
    """The graph has no weights for one-hot codes: the cost of a row is what is read for it."""
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    export_onnx(calibrated(rows, (30, 30), (8,)), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    first = [sizes[node.input[1]] for node in graph.node if node.op_type == "Gemm"]
    assert first == [(2 + 2 * 4, 3 * 8)]
