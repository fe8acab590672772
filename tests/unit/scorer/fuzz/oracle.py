"""What the service must answer, worked out without its code: from the contract, and by calling the ONNX model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

# Answers of rows that are scored together differ from a row's own in the last digits.
TOLERANCE = 1e-6


class RepeatedKey:
    """Stands for a JSON object in which a key appears twice."""


def parse_json(body: bytes) -> Any:
    """Return what JSON holds; bytes that are not UTF-8 become surrogates, which no valid application holds.

    Raises:
        ValueError: for what is not JSON.
    """

    def no_constant(text: str) -> float:
        raise ValueError(text)

    def pairs(found: list[tuple[str, Any]]) -> Any:
        return dict(found) if len(dict(found)) == len(found) else RepeatedKey()

    try:
        # A number of 5,000 digits is out of every range, and no reason to fail.
        return json.loads(
            body.decode("utf-8", "surrogateescape"),
            object_pairs_hook=pairs,
            parse_constant=no_constant,
            parse_int=float,
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error


class Oracle:
    """Tells valid applications from others, and scores them."""

    def __init__(self, folder: Path) -> None:
        """Read a version's files."""
        contract = json.loads((folder / "contract.json").read_bytes())
        self.features: list[dict[str, Any]] = contract["features"]
        self.names = [feature["name"] for feature in self.features]
        self.reference: dict[str, Any] = contract["reference_applicant"]
        self.threshold: float = contract["decision_threshold"]
        self.numeric = [feature for feature in self.features if feature["kind"] == "numeric"]
        self.categorical = [feature for feature in self.features if feature["kind"] == "categorical"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def valid(self, application: object) -> bool:
        """Return whether all features are there and in range, and nothing else but an applicant_id."""
        if not isinstance(application, dict) or not set(self.names) <= set(application):
            return False
        others = set(application) - set(self.names)
        if others - {"applicant_id"} or not _is_name(application.get("applicant_id")):
            return False
        return self.valid_values(application)

    def valid_values(self, application: Mapping[str, Any]) -> bool:
        """Return whether every feature's value is allowed."""
        return all(_in_range(application[f["name"]], f) for f in self.numeric) and all(
            isinstance(application[f["name"]], str) and application[f["name"]] in f["categories"]
            for f in self.categorical
        )

    def probabilities(self, applications: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the model's probability of default for valid applications."""
        if not applications:
            return []
        numeric = np.array([[a[f["name"]] for f in self.numeric] for a in applications], np.float64)
        codes = [[f["categories"].index(a[f["name"]]) for f in self.categorical] for a in applications]
        inputs = {"numeric": numeric.astype(np.float32), "categorical": np.array(codes, np.int64)}
        (found,) = self._session.run(["probability_of_default"], inputs)
        return [float(value) for value in found]

    def complaint(self, application: object, answered: Mapping[str, Any] | None) -> str:
        """Return what is wrong with the answer to an application (None: it was refused), empty if nothing is."""
        valid = self.valid(application)
        if answered is None or not valid:
            return "" if (answered is None) is not valid else f"valid is {valid}, answered {answered}: {application!r}"
        (wanted,) = self.probabilities([application])  # type: ignore[list-item]
        return self.wrong_score(wanted, answered)

    def wrong_score(self, wanted: float, answered: Mapping[str, Any]) -> str:
        """Return how an answer's members differ from a probability, empty if they do not."""
        found = answered["probability_of_default"]
        if found is None or abs(found - wanted) > TOLERANCE:
            return f"answered {found}, the model says {wanted}"
        decision = "approve" if found < self.threshold else "decline"
        return "" if answered.get("decision", decision) == decision else f"{found} is no {answered['decision']}"


def _is_name(value: object) -> bool:
    if isinstance(value, str):
        return all(not 0xD800 <= ord(character) <= 0xDFFF for character in value)
    return value is None


def _in_range(value: object, feature: Mapping[str, Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return bool(feature["minimum"] <= value <= feature["maximum"])
