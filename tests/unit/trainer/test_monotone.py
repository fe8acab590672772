"""Monotonic features: no application's probability of default moves the wrong way, in the network and in the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.dataset import Dataset, encode
from trainer.data.declaration import FeatureDeclaration
from trainer.data.inputs import CategoryInput, Inputs
from trainer.data.reading import read_table
from trainer.data.resolution import resolve
from trainer.data.validation import validate
from trainer.export.onnx_graph import export_onnx
from trainer.learning.calibration import calibrate, find_limits
from trainer.learning.fitting import fit
from trainer.learning.hyperparameters import Hyperparameters
from trainer.learning.network import Architecture, CalibratedNetwork, Encoding, RiskNetwork

# Of a probability: float32 computes it from sums of a few hundred terms.
TOLERANCE = 1e-6
SMALL = Hyperparameters(heads=5, hidden=(16, 16), bins=8, batch_rows=64, epochs=8, learning_rate=0.012)
# The first one is what the data say, the second the opposite of it.
DIRECTIONS = {"debt_to_income_ratio": "increasing", "credit_score": "increasing", "grade_subgrade": "increasing"}
Codes = npt.NDArray[np.integer[Any]]
Score = Callable[[npt.NDArray[np.float32], Codes], npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def constrained(declaration: FeatureDeclaration) -> FeatureDeclaration:
    """The loans' declaration with three directions; what has one may be missing, and the grade may be another."""
    document = declaration.model_dump()
    for feature in document["features"]:
        if feature["name"] in DIRECTIONS:
            feature.update(monotonic=DIRECTIONS[feature["name"]], missing="allowed")
            if feature["kind"] == "categorical":
                feature["other"] = True
    return FeatureDeclaration.model_validate(document)


@pytest.fixture(scope="module")
def data(constrained: FeatureDeclaration, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    table = read_table("synthetic", constrained, scratch=tmp_path_factory.mktemp("data"), synthetic_rows=2_000, seed=0)
    frame = validate(table, constrained, minimum_rows=100)
    return encode(frame, constrained)


@pytest.fixture(scope="module")
def trained(data: Dataset, constrained: FeatureDeclaration) -> CalibratedNetwork:
    fitted = fit(data, inputs=constrained.inputs, hyperparameters=SMALL, seed=0, on_epoch=lambda _: None)
    target = data.target[fitted.out_of_fold_rows].astype(np.float64)
    calibration = calibrate(fitted.out_of_fold_logit, target)
    limits = find_limits(fitted.out_of_fold_logit, target)
    return CalibratedNetwork(
        fitted.network,
        slope=calibration.slope,
        intercept=calibration.intercept,
        floor=limits.floor,
        ceiling=limits.ceiling,
    ).eval()


@pytest.fixture(scope="module")
def exported(trained: CalibratedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Score:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(trained, path)
    session = onnxruntime.InferenceSession(path)

    def score(numeric: npt.NDArray[np.float32], categorical: Codes) -> npt.NDArray[np.float32]:
        (found,) = session.run(None, {"numeric": numeric, "categorical": categorical})
        return np.asarray(found)

    return score


def in_torch(network: CalibratedNetwork) -> Score:
    def score(numeric: npt.NDArray[np.float32], categorical: Codes) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(network(torch.from_numpy(numeric), torch.from_numpy(categorical)))

    return score


def paths(
    declaration: FeatureDeclaration,
    numeric: npt.NDArray[np.float32],
    codes: Codes,
    steps: list[float],
) -> Iterator[tuple[int, npt.NDArray[np.float32], Codes]]:
    """Yield, for each monotonic feature, one application with this feature ever higher, and the feature's direction."""
    for column, feature in enumerate(declaration.numeric):
        if feature.direction:
            values = feature.minimum + np.sort(steps) * (feature.maximum - feature.minimum)
            rows = np.repeat(numeric, len(values), axis=0)
            rows[:, column] = values
            yield feature.direction, rows, np.repeat(codes, len(values), axis=0)
    for column, choice in enumerate(declaration.categorical):
        if choice.direction:
            rows_of_codes = np.repeat(codes, len(choice.categories), axis=0)
            rows_of_codes[:, column] = np.arange(len(choice.categories))
            yield choice.direction, np.repeat(numeric, len(rows_of_codes), axis=0), rows_of_codes


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.lists(st.floats(0, 1), min_size=2, max_size=20))
@pytest.mark.parametrize("where", ["network", "graph"])
def test_raising_a_value_never_moves_the_probability_the_wrong_way(
    where: str,
    seed: int,
    steps: list[float],
    trained: CalibratedNetwork,
    exported: Score,
    data: Dataset,
    constrained: FeatureDeclaration,
) -> None:
    score = exported if where == "graph" else in_torch(trained)
    rng = np.random.default_rng(seed)
    # Values of several applicants mixed, some of them missing, other or outside of the training data's range.
    numeric = np.array([[rng.choice(data.numeric[:, column]) for column in range(data.numeric.shape[1])]], np.float32)
    numeric = numeric * rng.choice([1, 1, 1, 3, -1], numeric.shape).astype(np.float32)
    missing = np.array(constrained.inputs.missing) & (rng.random(numeric.shape) < 0.2)
    numeric[missing] = np.nan
    codes = np.array([[rng.choice(column.codes) for column in constrained.inputs.categories]])
    for direction, rows, rows_of_codes in paths(constrained, numeric, codes, steps):
        together = score(rows, rows_of_codes).astype(np.float64)
        alone = [float(score(rows[at : at + 1], rows_of_codes[at : at + 1])[0]) for at in range(len(rows))]
        for found in (together, np.array(alone)):
            assert (np.diff(found) * direction >= -TOLERANCE).all()


def test_the_constraints_bind_and_leave_the_network_able_to_learn(
    trained: CalibratedNetwork, data: Dataset, constrained: FeatureDeclaration
) -> None:
    """A better credit score repays more often; a network that may only say the opposite must say nothing of it."""
    score = in_torch(trained)
    names = [feature.name for feature in constrained.numeric]
    spread = {}
    for name in ("debt_to_income_ratio", "credit_score"):
        low, high = data.numeric.copy(), data.numeric.copy()
        low[:, names.index(name)], high[:, names.index(name)] = np.nanquantile(
            data.numeric[:, names.index(name)], [0.05, 0.95]
        )
        spread[name] = float(np.mean(score(high, data.categorical) - score(low, data.categorical)))
    assert spread["debt_to_income_ratio"] > 0.1
    assert 0 <= spread["credit_score"] < 0.05


def test_a_missing_value_is_on_neither_side_of_the_order(
    trained: CalibratedNetwork, data: Dataset, constrained: FeatureDeclaration
) -> None:
    """Its weights are its own: for some applicants it is worse than any value, for none it is a value."""
    score, column = in_torch(trained), [f.name for f in constrained.numeric].index("debt_to_income_ratio")
    some = data.take(np.arange(100))
    absent = some.numeric.copy()
    absent[:, column] = np.nan
    found = score(absent, some.categorical)
    ends = []
    for value in (0.0, 1.0):
        rows = some.numeric.copy()
        rows[:, column] = value
        ends.append(score(rows, some.categorical))
    assert np.isfinite(found).all()
    assert (np.abs(found - ends[0]) > TOLERANCE).any()
    assert (np.abs(found - ends[1]) > TOLERANCE).any()


KINDS = Inputs(
    missing=(True, False, False),
    categories=(CategoryInput(4, ordered=True, missing=True, other=True, direction=-1), CategoryInput(3)),
    directions=(1, -1, 0),
)


def untrained(inputs: Inputs, *, hidden: tuple[int, ...] = (12, 8), seed: int = 0) -> RiskNetwork:
    rows = np.random.default_rng(0).normal(size=(200, len(inputs.missing))).astype(np.float32)
    torch.manual_seed(seed)
    return RiskNetwork(Encoding.fit(rows, inputs, bins=4), Architecture(heads=3, hidden=hidden, bins=4, dropout=0.0))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), hidden=st.sampled_from([(1,), (4,), (12, 8), (8, 8, 8)]))
def test_no_weights_whatever_break_the_constraints(seed: int, hidden: tuple[int, ...]) -> None:
    network = untrained(KINDS, hidden=hidden, seed=seed).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5)
        numeric, categorical = (
            torch.randn(50, 3) * 2,
            torch.stack([torch.randint(6, (50,)), torch.randint(3, (50,))], 1),
        )
        for column, direction in ((0, 1), (1, -1)):
            higher = numeric.clone()
            higher[:, column] += torch.rand(50) * 3
            steps = network(higher, categorical) - network(numeric, categorical)
            assert (steps * direction >= -1e-4).all()
        grades = [torch.cat([torch.full((50, 1), grade), categorical[:, 1:]], dim=1) for grade in range(4)]
        logits = torch.stack([network(numeric, codes) for codes in grades])
        assert (logits.diff(dim=0) <= 1e-4).all()


def test_unconstrained_features_are_as_free_as_before() -> None:
    """With random weights, the free number and the free category move the logit both ways."""
    network = untrained(KINDS).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.5)
        grid = torch.zeros(60, 3)
        grid[:, 2] = torch.linspace(-3, 3, 60)
        steps = network(grid, torch.zeros(60, 2, dtype=torch.int64)).diff(dim=1)
    assert (steps > 1e-3).any()
    assert (steps < -1e-3).any()


def test_without_directions_the_network_is_what_it_was() -> None:
    """Not one operation more: the layers are the plain ones, with the weights that the seed gives them."""
    free = Inputs(
        missing=KINDS.missing, categories=(CategoryInput(4, ordered=True, missing=True, other=True), CategoryInput(3))
    )
    network = untrained(free)
    assert not [name for name, _ in network.named_parameters() if "original" in name]
    assert {type(layer).__name__ for layer in (*network.layers, network.output)} == {"PackedLinear"}
    zeros = untrained(Inputs(missing=free.missing, categories=free.categories, directions=(0, 0, 0)))
    for first, second in zip(network.parameters(), zeros.parameters(), strict=True):
        assert torch.equal(first, second)


def test_constraints_change_the_graphs_weights_and_nothing_else(tmp_path: Path) -> None:
    free = Inputs(
        missing=KINDS.missing, categories=(CategoryInput(4, ordered=True, missing=True, other=True), CategoryInput(3))
    )
    graphs = []
    for name, inputs in (("free", free), ("constrained", KINDS)):
        network = CalibratedNetwork(untrained(inputs), slope=1.0, intercept=0.0, floor=0.01, ceiling=0.99).eval()
        export_onnx(network, tmp_path / f"{name}.onnx")
        graphs.append(onnx.load(tmp_path / f"{name}.onnx").graph)
    assert len({tuple(node.op_type for node in graph.node) for graph in graphs}) == 1
    assert len({tuple((item.name, *item.dims) for item in graph.initializer) for graph in graphs}) == 1


def test_what_is_learned_about_other_declarations_does_not_depend_on_constraints(
    data: Dataset, declaration: FeatureDeclaration
) -> None:
    """An unconstrained declaration has no directions in its inputs, so it trains by the code that it always did."""
    assert set(resolve(declaration, data.frame, np.ones(len(data), dtype=bool)).inputs.directions) == {0}
