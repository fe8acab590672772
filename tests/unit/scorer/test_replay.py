"""`python -m scorer replay`: the stored inputs of a decision give the same bits again, and what is wrong is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper, numpy_helper

from scorer.model.bundle import Model, load_model
from scorer.model.identity import Identity
from scorer.model.network import Network
from scorer.model.scorecard import Scorecard
from scorer.replay import Question, Refused, Replayed, Replayer, replay, row_of
from unit.scorer.contracts import agreement
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import REFERENCE, write_model
from unit.scorer.service_process import SOURCES

SCORECARD = Scorecard(600, 50, 20)
OTHER = {"other": True}
# Inputs as they are stored, and the codes of home, purpose, region and employer that they stand for.
ROWS: list[tuple[dict[str, Any], list[int]]] = [
    (REFERENCE, [0, 0, 0, 0]),
    ({**REFERENCE, "home": "rent", "purpose": "None", "employer": "B"}, [1, 2, 0, 1]),
    ({**REFERENCE, "bureau_score": None, "debt_ratio": None}, [0, 0, 0, 0]),
    ({**REFERENCE, "purpose": None, "region": None}, [0, 3, 2, 0]),
    ({**REFERENCE, "purpose": OTHER, "employer": OTHER}, [0, 4, 0, 3]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("graded"), **GRADED_CONTRACT)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder, Identity("", "", "", {}, {}))


def question(folder: Path | str, inputs: dict[str, Any], probability: float = 0.5, **changes: Any) -> Question:
    given = {"reasons": None, "single": True, **changes}
    return Question(str(folder), inputs, probability, scorecard=SCORECARD, **given)


def bits(probability: float) -> int:
    return int(np.float32(probability).view(np.uint32))


@pytest.mark.parametrize(("inputs", "codes"), ROWS)
def test_stored_inputs_are_the_row_that_was_scored(model: Model, inputs: dict[str, Any], codes: list[int]) -> None:
    numeric, found = row_of(model.contract, inputs)
    assert [str(array.dtype) for array in (numeric, found)] == ["float32", "int64"]
    assert found.tolist() == [codes]
    expected = [float("nan") if inputs[name] is None else inputs[name] for name in ("bureau_score", "debt_ratio")]
    assert numeric[0, 1:].tolist() == pytest.approx(expected, nan_ok=True)
    probability = float(model.network.score(numeric, found)[0])
    answer = replay(model, question("", inputs, probability, reasons=()))
    assert bits(answer.probability) == bits(probability)
    assert answer.points == SCORECARD.points(probability)
    assert answer.grade == ("Prime" if probability < 0.4 else "B-" if probability < 0.7 else "subprime")
    assert answer.decision == ("decline" if probability >= 0.5 else "approve")


def test_a_stored_probability_of_another_bit_is_not_found_again(model: Model) -> None:
    right = float(model.network.score(*row_of(model.contract, REFERENCE))[0])
    for flipped in (1, 2, 1 << 10, 1 << 22):
        stored = float(np.array(bits(right) ^ flipped, np.uint32).view(np.float32))
        assert bits(replay(model, question("", REFERENCE, stored)).probability) == bits(right)


@pytest.mark.parametrize("single", [True, False])
def test_as_many_reasons_are_found_as_were_stored(model: Model, single: bool) -> None:
    inputs = {**REFERENCE, "home": "rent", "purpose": "None", "bureau_score": None, "region": None}
    explanation = model.explainer.explain(*row_of(model.contract, inputs))[0]
    every = tuple(reason.code for reason in model.explainer.reasons(explanation, 9, 1.0))
    assert len(every) > 2
    assert replay(model, question("", inputs, reasons=None, single=single)).reasons is None
    for count in range(1, len(every) + 1):
        assert replay(model, question("", inputs, reasons=every[:count], single=single)).reasons == every[:count]
    # A request that got none, although there is one; and one whose reasons were exchanged.
    assert replay(model, question("", inputs, reasons=())).reasons == every[:1]
    assert replay(model, question("", inputs, reasons=every[1::-1])).reasons == every[:2]
    assert replay(model, question("", REFERENCE, reasons=())).reasons == ()


def test_bits_that_depend_on_the_rows_of_a_call_are_found(model: Model, tmp_path: Path) -> None:
    crowded = replace(model, network=Network(_network_that_counts_rows(tmp_path)))
    numeric, codes = row_of(model.contract, REFERENCE)
    for rows in (1, 2, 17, 128):
        stored = float(crowded.network.score(np.repeat(numeric, rows, 0), np.repeat(codes, rows, 0))[0])
        answer = replay(crowded, question("", REFERENCE, stored))
        assert (bits(answer.probability), answer.rows) == (bits(stored), rows)
    alone = float(crowded.network.score(numeric, codes)[0])
    answer = replay(crowded, question("", REFERENCE, 0.9))
    assert (answer.probability, answer.rows) == (alone, 1)


def _network_that_counts_rows(folder: Path) -> Path:
    """Write a network whose answer is a quarter, and a little more for each row of the call."""
    node, info = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Gather", ["numeric", "first"], ["income"], axis=1),
        node("Mul", ["income", "none"], ["zeros"]),
        node("Shape", ["income"], ["shape"]),
        node("Cast", ["shape"], ["count"], to=TensorProto.FLOAT),
        node("Mul", ["count", "little"], ["more"]),
        node("Add", ["zeros", "more"], ["sum"]),
        node("Add", ["sum", "quarter"], ["probability_of_default"]),
    ]
    constants = [
        helper.make_tensor(name, kind, [], [value])
        for name, kind, value in [("first", TensorProto.INT64, 0), ("none", TensorProto.FLOAT, 0.0),
                                  ("little", TensorProto.FLOAT, 1e-6), ("quarter", TensorProto.FLOAT, 0.25)]
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "rows", [info("numeric", TensorProto.FLOAT, ["rows", 3])],
        [info("probability_of_default", TensorProto.FLOAT, ["rows"])], constants,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "rows.onnx")
    return folder / "rows.onnx"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"home": "castle"}, "the input home is 'castle'; allowed: one of own, rent, null if it is missing"),
        ({"purpose": {"other": False}}, "the input purpose is {'other': False}"),
        ({"income": "much"}, "the input income is 'much'; allowed: a number, or null"),
        ({"shoe_size": 43.0}, "the inputs and the contract differ in the features shoe_size"),
    ],
)
def test_inputs_that_are_none_of_this_version_are_refused_by_name(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    answer = Replayer(1).answer(msgspec.json.encode(question(folder, {**REFERENCE, **changes})))
    assert isinstance(answer, Refused)
    assert words in answer.reason


def test_at_most_so_many_versions_stay_loaded(folder: Path, tmp_path: Path) -> None:
    replayer = Replayer(2)
    folders = []
    for name in "abc":
        (tmp_path / name).mkdir()
        folders.append(write_model(tmp_path / name, **GRADED_CONTRACT))
        assert isinstance(replayer.answer(msgspec.json.encode(question(folders[-1], REFERENCE))), Replayed)
    for each in folders:
        (each / "model.onnx").unlink()
    answers = [replayer.answer(msgspec.json.encode(question(each, REFERENCE))) for each in folders[::-1]]
    # Those that are loaded need no file; the third has to be loaded again.
    assert [type(answer) for answer in answers] == [Replayed, Replayed, Refused]
    # A version that cannot be loaded had the others dropped, because memory might have been what it lacked.
    assert isinstance(replayer.answer(msgspec.json.encode(question(folders[2], REFERENCE))), Refused)


def run(lines: list[bytes], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the program on lines of its stdin."""
    done = subprocess.run(
        [sys.executable, "-m", "scorer", "replay", *arguments], input=b"\n".join(lines), capture_output=True,
        timeout=60, env={**os.environ, "PYTHONPATH": str(SOURCES), "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_the_program_speaks_as_the_contract_says_and_survives_bad_lines(folder: Path) -> None:
    asked = [msgspec.json.encode(question(folder, inputs, reasons=("R1",), single=False)) for inputs, _ in ROWS]
    valid = Draft202012Validator(agreement("replay.schema.json"))
    for line in asked:
        valid.validate(json.loads(line))
    code, answers, err = run([asked[0], b"{", b"", b"[]", *asked[1:]])
    assert (code, err) == (0, "")
    assert [answer["kind"] for answer in answers] == ["replayed", *["refused"] * 3, *["replayed"] * 4]
    for answer in answers:
        valid.validate(answer)
    assert len(answers[0]["runtime"]["scorer_sha256"]) == 64
    assert answers[0]["runtime"]["onnxruntime"].count(".") == 2


def test_a_version_that_does_not_fit_into_memory_is_refused_and_the_program_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    large = write_model(tmp_path, **GRADED_CONTRACT)
    graph = onnx.load(large / "model.onnx")
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(40_000_000, np.float32), "weights"))
    onnx.save(graph, large / "model.onnx")
    asked = [msgspec.json.encode(question(each, REFERENCE)) for each in (folder, large, folder)]
    code, answers, _ = run(asked, "--memory-mebibytes", "192")
    assert (code, [answer["kind"] for answer in answers]) == (0, ["replayed", "refused", "replayed"])


def test_wrong_arguments_are_told() -> None:
    code, answers, err = run([], "--versions", "0")
    assert (code, answers, "--versions: 0 is below 1" in err) == (2, [], True)
