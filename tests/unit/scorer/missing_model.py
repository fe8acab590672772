"""A model that treats every kind of missing, other and extreme value differently, as a contract of version 3 allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOOR, CEILING = 0.01, 0.97
_NUMBER = {"kind": "numeric", "unit": "", "description": "", "protected": False}
_WORD = {"kind": "categorical", "description": "", "protected": False}
FEATURES: list[dict[str, Any]] = [
    {**_NUMBER, "name": "income", "minimum": 0.0, "maximum": 1e7, "missing": False, "missing_values": [],
     "training_minimum": 5_000.0, "training_maximum": 400_000.0, "reason_code": "R1", "unit": "USD"},
    {**_WORD, "name": "home", "categories": ["own", "rent"], "missing": False, "missing_values": [], "other": False,
     "reason_code": "R2"},
    {**_NUMBER, "name": "bureau_score", "minimum": 0.0, "maximum": 1_000.0, "missing": True,
     "missing_values": [999.0, -1.0, 500.0], "training_minimum": 300.0, "training_maximum": 850.0,
     "description": "Bureau score", "reason_code": "R3"},
    {**_NUMBER, "name": "debt_ratio", "minimum": 0.0, "maximum": 2.0, "missing": True, "missing_values": [-99.9],
     "training_minimum": 0.1, "training_maximum": 0.9, "reason_code": "R4"},
    {**_WORD, "name": "purpose", "categories": ["Car", "Home", "None"], "missing": True,
     "missing_values": ["unknown"], "other": True, "description": "What the loan is for", "reason_code": "R5"},
    {**_WORD, "name": "region", "categories": ["north", "south"], "missing": True, "missing_values": [],
     "other": False, "reason_code": "R6", "protected": True},
    {**_WORD, "name": "employer", "categories": ["A", "B"], "missing": False, "missing_values": [], "other": True,
     "reason_code": "R7"},
]  # fmt: skip
REFERENCE: dict[str, Any] = {
    "income": 40_000.0, "home": "own", "bureau_score": 680.0, "debt_ratio": 0.3, "purpose": "Car", "region": "north",
    "employer": "A",
}  # fmt: skip
CONTRACT: dict[str, Any] = {
    "format_version": 3,
    "model_name": "credit-risk",
    "features": FEATURES,
    "ignored": ["former"],
    "reference_applicant": REFERENCE,
    "score_histogram": {"edges": [0.0, 0.5, 1.0], "counts": [3, 1]},
    "decision_threshold": 0.5,
    "probability_limits": {"floor": FLOOR, "ceiling": CEILING},
    "training_data_sha256": "0" * 64,
}
# By numeric column: the centre, the weight, and the weight of a missing value.
_CENTRES, _WEIGHTS, _ABSENT = [40_000.0, 650.0, 0.3], [-4e-6, -0.004, 2.0], [0.0, 0.9, -0.7]
# By categorical column and code: the categories, then missing, then other.
_TABLES = [[0.0, 0.4], [0.0, -0.3, 0.25, 0.8, -0.9], [0.0, 0.2, 0.6], [0.0, 0.35, 7.0, -0.5]]


def write_model(folder: Path, **changes: Any) -> Path:
    """Write model.onnx and contract.json, with changed keys of the contract, and return the folder."""
    onnx.save(_graph(), str(folder / "model.onnx"))
    (folder / "contract.json").write_text(json.dumps({**CONTRACT, **changes}))
    return folder


def _graph() -> onnx.ModelProto:
    numbers = [feature for feature in FEATURES if feature["kind"] == "numeric"]
    constants: dict[str, Any] = {
        "low": np.array([feature["training_minimum"] for feature in numbers], np.float32),
        "high": np.array([feature["training_maximum"] for feature in numbers], np.float32),
        "centres": np.array(_CENTRES, np.float32),
        "weights": np.array(_WEIGHTS, np.float32),
        "absent": np.array(_ABSENT, np.float32),
        "floor": np.float32(FLOOR),
        "ceiling": np.float32(CEILING),
        "columns": np.array([1]),
        **{f"table{column}": np.array(table, np.float32) for column, table in enumerate(_TABLES)},
        **{f"column{column}": np.array(column) for column in range(len(_TABLES))},
    }
    node = helper.make_node
    nodes = [
        node("IsNaN", ["numeric"], ["lacking"]),
        node("Max", ["numeric", "low"], ["raised"]),
        node("Min", ["raised", "high"], ["clamped"]),
        node("Sub", ["clamped", "centres"], ["centred"]),
        node("Mul", ["centred", "weights"], ["known"]),
        node("Where", ["lacking", "absent", "known"], ["terms"]),
        node("ReduceSum", ["terms", "columns"], ["sum0"], keepdims=0),
    ]
    for column in range(len(_TABLES)):
        nodes += [
            node("Gather", ["categorical", f"column{column}"], [f"codes{column}"], axis=1),
            node("Gather", [f"table{column}", f"codes{column}"], [f"term{column}"]),
            node("Add", [f"sum{column}", f"term{column}"], [f"sum{column + 1}"]),
        ]
    nodes += [
        node("Sigmoid", [f"sum{len(_TABLES)}"], ["unlimited"]),
        node("Clip", ["unlimited", "floor", "ceiling"], ["probability_of_default"]),
    ]
    graph = helper.make_graph(
        nodes, "missing",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["rows", len(numbers)]),
         helper.make_tensor_value_info("categorical", TensorProto.INT64, ["rows", len(_TABLES)])],
        [helper.make_tensor_value_info("probability_of_default", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
