"""Mixtures by halves of a network have the scores of the whole network, or are scored by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from creditrisk_scoring import halves
from creditrisk_scoring.graph_file import FLOAT, GraphFile
from creditrisk_scoring.halves import HalfMixtures, mixtures_of
from scorer.applications.features import encode
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import Contract
from scorer.model.mixtures import Mixtures, WholeMixtures
from scorer.model.network import Network
from scorer.model.reasons import Explainer, codes_of
from trainer.data.inputs import CategoryInput, Inputs
from trainer.export.onnx_graph import export_onnx
from trainer.learning.network import Architecture, CalibratedNetwork, Encoding, RiskNetwork
from unit.scorer.contracts import DOCUMENT
from unit.scorer.missing_model import write_model

EVERYTHING = Inputs(
    missing=(True, False, True),
    categories=(
        CategoryInput(3, missing=True), CategoryInput(4, ordered=True, missing=True, other=True),
        CategoryInput(30, other=True), CategoryInput(2),
    ),
)  # fmt: skip
NOTHING_MISSING = Inputs(missing=(False, False), categories=(CategoryInput(3), CategoryInput(4)))
NUMBERS = Inputs(missing=(False, True, False), categories=())
CATEGORIES = Inputs(missing=(), categories=(CategoryInput(3), CategoryInput(4)))
ROWS = 300


def contract_of(inputs: Inputs) -> Contract:
    """Return a contract of features as the network's inputs have them; numbers are between 0 and 10."""
    common = {"description": "", "protected": False}
    numbers = [
        {**common, "kind": "numeric", "name": f"n{index}", "unit": "", "minimum": 0.0, "maximum": 10.0,
         "missing": missing, "missing_values": [], "training_minimum": 1.0, "training_maximum": 9.0,
         "reason_code": f"N{index}"}
        for index, missing in enumerate(inputs.missing)
    ]  # fmt: skip
    words = [
        {**common, "kind": "categorical", "name": f"c{index}", "missing": given.missing, "missing_values": [],
         "categories": [f"v{code}" for code in range(given.count)], "other": given.other, "reason_code": f"C{index}"}
        for index, given in enumerate(inputs.categories)
    ]  # fmt: skip
    reference = {feature["name"]: 4.0 for feature in numbers} | {feature["name"]: "v1" for feature in words}
    document = {**DOCUMENT, "format_version": 3, "features": [*numbers, *words], "reference_applicant": reference,
                "ignored": [], "probability_limits": {"floor": 0.001, "ceiling": 0.99}}  # fmt: skip
    return msgspec.convert(document, Contract)


def rows_of(contract: Contract, count: int = ROWS) -> tuple[FloatRows, CodeRows]:
    """Return rows of all kinds of values, also outside of the training data's range, some as the reference has them."""
    draw, reference = np.random.default_rng(1), encode(contract, contract.reference_applicant)
    numeric = draw.uniform(0, 10, (count, len(contract.numeric))).astype(np.float32)
    for column, feature in enumerate(contract.numeric):
        numeric[draw.random(count) < 0.2, column] = np.nan if feature.missing else 4.0
    codes = np.zeros((count, len(contract.categorical)), np.int64)
    for column, word in enumerate(contract.categorical):
        codes[:, column] = draw.choice(codes_of(word), count)
    numeric[:1], codes[:1] = (part[: min(count, 1)] for part in reference)
    return numeric, codes


def write_network(folder: Path, inputs: Inputs, hidden: tuple[int, ...] = (8, 6)) -> bytes:
    torch.manual_seed(0)
    known = np.random.default_rng(0).uniform(1, 9, (200, len(inputs.missing))).astype(np.float32)
    network = RiskNetwork(
        Encoding.fit(known, inputs, bins=4), Architecture(heads=3, hidden=hidden, bins=4, dropout=0.1)
    )
    calibrated = CalibratedNetwork(network, slope=9.0, intercept=-1.0, floor=0.001, ceiling=0.99).eval()
    export_onnx(calibrated, folder / "model.onnx")
    return (folder / "model.onnx").read_bytes()


def of_file(content: bytes, folder: Path, contract: Contract) -> tuple[Mixtures, WholeMixtures]:
    """Return what scores a file's mixtures, and what does so by the whole network."""
    (folder / "model.onnx").write_bytes(content)
    network = Network(folder / "model.onnx")
    whole = WholeMixtures(network.score_many, *encode(contract, contract.reference_applicant))
    return mixtures_of(content, contract, network), whole


@pytest.mark.parametrize("inputs", [EVERYTHING, NOTHING_MISSING, NUMBERS], ids=["everything", "plain", "numbers"])
@pytest.mark.parametrize("hidden", [(8,), (8, 6), (8, 8, 4)], ids=str)
def test_all_mixtures_have_the_whole_network_s_scores(
    inputs: Inputs, hidden: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of a few rows, the last one of fewer.
    monkeypatch.setattr(halves, "_BLOCK_BYTES", 10_000)
    contract = contract_of(inputs)
    mixtures, whole = of_file(write_network(tmp_path, inputs, hidden), tmp_path, contract)
    assert isinstance(mixtures, HalfMixtures)
    numeric, codes = rows_of(contract)
    needed = np.random.default_rng(2).random((ROWS, 1 + 2 * numeric.shape[1] + codes.shape[1])) < 0.7
    expected = whole.score(numeric, codes, needed)[needed]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(mixtures.score(numeric, codes, needed)[needed], expected, rtol=0, atol=1e-6)


def test_explanations_are_those_of_the_whole_network(tmp_path: Path) -> None:
    contract = contract_of(EVERYTHING)
    mixtures, _ = of_file(write_network(tmp_path, EVERYTHING), tmp_path, contract)
    network, rows = Network(tmp_path / "model.onnx"), rows_of(contract)
    found = Explainer(contract, network.score_many, mixtures).attribute(*rows)
    expected = Explainer(contract, network.score_many).attribute(*rows)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.contributions, expected.contributions, rtol=0, atol=2e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_are_scored_too(count: int, tmp_path: Path) -> None:
    contract = contract_of(EVERYTHING)
    mixtures, whole = of_file(write_network(tmp_path, EVERYTHING), tmp_path, contract)
    numeric, codes = rows_of(contract, count)
    needed = np.ones((count, 1 + 2 * numeric.shape[1] + codes.shape[1]), dtype=bool)
    np.testing.assert_allclose(
        mixtures.score(numeric, codes, needed), whole.score(numeric, codes, needed), rtol=0, atol=1e-6
    )


def changed(content: bytes, change: Any) -> bytes:
    model = onnx.load_from_string(content)
    change(model.graph)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def double_the_words(graph: onnx.GraphProto) -> None:
    """Let the graph add what its table says of categories twice, under the names of one that adds it once."""
    at, product = next((at, node) for at, node in enumerate(graph.node) if node.op_type == "Gemm")
    graph.node.insert(at, helper.make_node("Add", [product.input[2], product.input[2]], ["twice"]))
    next(node for node in graph.node if node.op_type == "Gemm").input[2] = "twice"


def rename_the_table(graph: onnx.GraphProto) -> None:
    """Call the table otherwise, as a graph of another trainer does."""
    next(constant for constant in graph.initializer if constant.name == "network.table").name = "lines"
    for node in graph.node:
        node.input[:] = ["lines" if name == "network.table" else name for name in node.input]


@pytest.mark.parametrize("change", [double_the_words, rename_the_table])
def test_a_graph_that_is_not_what_the_names_say_is_scored_whole(change: Any, tmp_path: Path) -> None:
    content = changed(write_network(tmp_path, EVERYTHING), change)
    mixtures, _ = of_file(content, tmp_path, contract_of(EVERYTHING))
    assert isinstance(mixtures, WholeMixtures)


def test_a_graph_without_numbers_is_scored_whole(tmp_path: Path) -> None:
    mixtures, _ = of_file(write_network(tmp_path, CATEGORIES), tmp_path, contract_of(CATEGORIES))
    assert isinstance(mixtures, WholeMixtures)


def test_a_graph_of_another_kind_has_no_such_halves(tmp_path: Path) -> None:
    content = (write_model(tmp_path) / "model.onnx").read_bytes()
    contract = msgspec.json.decode((tmp_path / "contract.json").read_bytes(), type=Contract)
    assert isinstance(of_file(content, tmp_path, contract)[0], WholeMixtures)


def test_a_file_that_is_no_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        GraphFile(b"\x0a\xff")


def test_a_part_of_a_graph_keeps_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    content = write_network(tmp_path, EVERYTHING)
    given = onnx.load_from_string(content)
    graph = GraphFile(content)
    product = graph.node_with("Gemm", place=1, tensor="network.ramps")
    assert product
    part = onnx.load_from_string(graph.part({product[1]: FLOAT}, ["probability_of_default"]))
    assert [node.op_type for node in part.graph.node][:1] == ["Relu"]
    assert [node.op_type for node in part.graph.node][-1:] == ["Clip"]
    assert part.opset_import == given.opset_import
    kept = {constant.name: numpy_helper.to_array(constant) for constant in part.graph.initializer}
    assert "network.weight_0" in kept
    assert "network.table" not in kept
    table = next(constant for constant in given.graph.initializer if constant.name == "network.table")
    np.testing.assert_array_equal(graph.constant("network.table"), numpy_helper.to_array(table))
    assert graph.constant("unknown") is None
