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

from trainer.data.inputs import CategoryInput, Inputs
from trainer.export.onnx_graph import export_onnx
from trainer.learning.network import Architecture, CalibratedNetwork, Encoding, RiskNetwork

EVERYTHING = Inputs(
    missing=(True, False, True),
    categories=(
        CategoryInput(3, missing=True),
        CategoryInput(4, ordered=True, missing=True, other=True),
        CategoryInput(3, other=True),
        CategoryInput(2),
    ),
)
LIMITS = [[-1e9, -1e9, -1e9], [1e9, 1e9, 1e9], [0, 0, 0]]


def calibrated(
    rows: npt.NDArray[np.float32], categories: tuple[int, ...], hidden: tuple[int, ...]
) -> CalibratedNetwork:
    # In these tests, a feature with four categories is an ordered one.
    known = tuple(CategoryInput(count, ordered=count == 4) for count in categories)
    return of_inputs(rows, Inputs(missing=(False,) * rows.shape[1], categories=known), hidden)


def of_inputs(
    rows: npt.NDArray[np.float32], inputs: Inputs, hidden: tuple[int, ...], *, floor: float = 0.001
) -> CalibratedNetwork:
    torch.manual_seed(0)
    encoding = Encoding.fit(rows, inputs, bins=4)
    network = RiskNetwork(encoding, Architecture(heads=3, hidden=hidden, bins=4, dropout=0.1))
    return CalibratedNetwork(network, slope=0.9, intercept=0.1, floor=floor, ceiling=0.99).eval()


def scores(path: Path, numeric: npt.ArrayLike, categorical: npt.ArrayLike) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path)
    feeds = {"numeric": np.asarray(numeric, np.float32), "categorical": np.asarray(categorical, np.int64)}
    (answer,) = session.run(None, {item.name: feeds[item.name] for item in session.get_inputs()})
    return np.asarray(answer)


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


def test_missing_and_other_values_score_like_in_the_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(3, size=(400, 3)).astype(np.float32) * np.array([1, 50_000, 1e-3], np.float32)
    known[rng.random(known.shape) < [0.2, 0, 0.5]] = np.nan
    categorical = np.stack([rng.choice(column.codes, len(known)) for column in EVERYTHING.categories], axis=1)
    network = of_inputs(known, EVERYTHING, (8, 6))
    export_onnx(network, tmp_path / "model.onnx")
    with torch.no_grad():
        expected = network(torch.from_numpy(known), torch.from_numpy(categorical)).numpy()
    assert np.isfinite(expected).all()
    assert scores(tmp_path / "model.onnx", known, categorical) == pytest.approx(expected, abs=1e-6)


def test_a_missing_value_is_neither_zero_nor_the_mean_and_no_missing_value_is_like_another(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(400, 3)).astype(np.float32)
    export_onnx(of_inputs(known, EVERYTHING, (8, 6)), tmp_path / "model.onnx")
    mean = known.mean(axis=0)
    numeric = [mean, [np.nan, *mean[1:]], [*mean[:2], np.nan], [0, *mean[1:]], known.min(axis=0), mean, mean, mean]
    codes = [[0, 0, 0, 0]] * 5 + [[3, 0, 0, 0], [0, 4, 0, 0], [0, 5, 0, 0]]
    found = scores(tmp_path / "model.onnx", numeric, codes)
    assert len(np.unique(found)) == len(found)


def test_numbers_are_clamped_to_the_range_of_the_training_rows(tmp_path: Path) -> None:
    known = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    # A constant has no range to learn from, however large the values that are asked about.
    known[:, 1] = 5
    export_onnx(of_inputs(known, EVERYTHING, (8, 6)), tmp_path / "model.onnx")
    inside = [known.min(axis=0), known.max(axis=0)]
    outside = [[-9, -1e30, -1e38], [9, 1e38, 1e38]]
    codes = [[0, 0, 0, 0]] * 2
    found = scores(tmp_path / "model.onnx", outside, codes)
    assert found.tolist() == scores(tmp_path / "model.onnx", inside, codes).tolist()
    assert found[0] != found[1]


def test_probabilities_stay_within_their_limits(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    plain = Inputs(missing=(False, False), categories=())
    export_onnx(of_inputs(rows, plain, (8,), floor=0.0), tmp_path / "free.onnx")
    free = scores(tmp_path / "free.onnx", rows, [])
    floor = float(np.median(free))
    export_onnx(of_inputs(rows, plain, (8,), floor=floor), tmp_path / "limited.onnx")
    assert scores(tmp_path / "limited.onnx", rows, []) == pytest.approx(np.maximum(free, floor))


def test_a_large_offset_costs_no_parity(tmp_path: Path) -> None:
    """Dates as yyyymmdd over years: float32 has every second of them."""
    rng = np.random.default_rng(0)
    dates = (20_200_101 + 10_000 * rng.integers(0, 5, 500) + rng.integers(0, 1_130, 500)).astype(np.float32)[:, None]
    network = of_inputs(dates, Inputs(missing=(False,), categories=()), (8, 6))
    export_onnx(network, tmp_path / "model.onnx")
    with torch.no_grad():
        expected = network(torch.from_numpy(dates), torch.empty(500, 0, dtype=torch.int64)).numpy()
    assert scores(tmp_path / "model.onnx", dates, []) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("may_be_missing", [False, True])
def test_only_a_graph_whose_numbers_may_be_missing_looks_for_missing_numbers(
    *, may_be_missing: bool, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    inputs = Inputs(missing=(False, may_be_missing), categories=(CategoryInput(3, missing=True, other=True),))
    export_onnx(of_inputs(rows, inputs, (8, 4)), tmp_path / "model.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert ({"IsNaN", "Where"} <= operators) is may_be_missing


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
