"""A version of a model, and the function from a batch of applications to their results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from creditrisk_scoring.columns import column_of
from creditrisk_scoring.distributions import REFERENCE, TrainingReference, read_reference
from creditrisk_scoring.errors import UsageError
from scorer.answers import RowProblem
from scorer.applications.tables import Rows
from scorer.contract import Contract
from scorer.model.bundle import Model, ScoredRows, load_model
from scorer.model.identity import Identity
from scorer.model.readiness import LoadingError
from scorer.model.reasons import Attributions, Explainer
from scorer.model.scorecard import Scorecard
from scorer.problems import Problem

FILES = ("model.onnx", "contract.json")
PROBLEM = "problem"
PROBABILITY = "probability_of_default"
# At most as many as the service takes in one batch, so that its code can be used as it is.
BATCH_ROWS = 8192
# Rows of one call of a network of so many bytes: what a cache holds of activations, and enough that the call itself, of
# 20 us, costs little beside a small network.
_CHUNK_ROW_BYTES, _CHUNK_ROWS = 128 << 20, (128, 1024)
_DECISIONS = pa.array(["approve", "decline"])


@dataclass(frozen=True)
class Version:
    """A loaded version, and what makes its results the same everywhere.

    Attributes:
        model: Scores and explains.
        digests: The SHA-256, in hex, of each of the version's files.
        scorecard: The scale of score points.
        graph: model.onnx.
        reference: How features were distributed in training; None for a version without one.
    """

    model: Model
    digests: Mapping[str, str]
    scorecard: Scorecard
    graph: bytes
    reference: TrainingReference | None = None

    @property
    def contract(self) -> Contract:
        """What the version needs of an application."""
        return self.model.contract

    def probabilities(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the probability of default of each row, float32 [N]."""
        chunk = min(max(_CHUNK_ROW_BYTES // len(self.graph), _CHUNK_ROWS[0]), _CHUNK_ROWS[1])
        return self.model.network.score_many(rows.numeric, rows.codes, chunk)

    @cached_property
    def explainer(self) -> Explainer:
        """What finds reasons for many rows; made when they are asked for first."""
        from creditrisk_scoring.halves import mixtures_of  # noqa: PLC0415 - imports protobuf, which no other part needs

        network = self.model.network
        return Explainer(self.contract, network.score_many, mixtures_of(self.graph, self.contract, network))


def load_version(folder: Path, scorecard: Scorecard) -> Version:
    """Load the version in a folder.

    Args:
        folder: Has model.onnx and contract.json, and training-reference.json if the version has one.
        scorecard: The scale of score points.

    Raises:
        UsageError: There is no such version, or it cannot be served.
    """
    try:
        contents = {name: (folder / name).read_bytes() for name in FILES}
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        model = load_model(folder, Identity("", "", "", digests, {}))
    except OSError as error:
        raise UsageError(f"{folder} holds no version: {error}; needed: {' and '.join(FILES)}") from error
    except LoadingError as error:
        raise UsageError(f"the version in {folder} cannot be served: {error}") from error
    described = folder / REFERENCE
    reference = read_reference(described.read_bytes(), model.contract) if described.exists() else None
    return Version(model, digests, scorecard, contents[FILES[0]], reference)


def result_schema(contract: Contract, reasons: int = 0) -> pa.Schema:
    """Return the columns of `score`."""
    return pa.schema([
        (PROBABILITY, pa.float32()),
        ("score_points", pa.int32()),
        ("decision", pa.string()),
        *([("grade", pa.string())] if contract.grades else []),
        *([("reasons", pa.list_(pa.string()))] if reasons else []),
        (PROBLEM, pa.string()),
    ])  # fmt: skip


def check_schema(schema: pa.Schema, version: Version) -> None:
    """Refuse tables that no row of could be scored.

    Raises:
        UsageError: A column is missing, appears twice, or has a type that cannot be read.
    """
    score(pa.RecordBatch.from_pylist([], schema=schema), version)


def score(
    batch: pa.RecordBatch,
    version: Version,
    *,
    reasons: int = 0,
    seen: Callable[[Rows, npt.NDArray[np.bool_]], None] = lambda *_: None,
) -> pa.RecordBatch:
    """Return the results of applications, in their order.

    Args:
        batch: A column for each feature, by its name; others are ignored. Of any number of rows.
        version: Scores them.
        reasons: How many reason codes to find, at most; 0 for none, and for no column of them.
        seen: Is given the applications as the model has them, and which of them are valid.

    Returns:
        As many rows, with the columns of `result_schema`. An invalid application has a `problem`, as JSON, and null
        everywhere else; any other one has null there.

    Raises:
        UsageError: What `check_schema` raises.
    """
    _refuse_duplicates(batch.schema, version.contract)
    parts = [
        _score_part(batch.slice(at, BATCH_ROWS), version, reasons, seen)
        for at in range(0, max(batch.num_rows, 1), BATCH_ROWS)
    ]
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def _score_part(
    batch: pa.RecordBatch, version: Version, reasons: int, seen: Callable[[Rows, npt.NDArray[np.bool_]], None]
) -> pa.RecordBatch:
    contract, model = version.contract, version.model
    numeric = {feature.name for feature in contract.numeric}
    columns = {
        feature.name: column_of(feature.name, batch.column(feature.name), numeric=feature.name in numeric)
        for feature in contract.features
        if feature.name in batch.schema.names
    }
    try:
        rows = model.tables.from_columns(columns, lenient=True)
    except Problem as problem:
        wrong = "; ".join(f"{error.field} {error.problem}, needed: {error.allowed}" for error in problem.errors)
        raise UsageError(wrong or problem.detail) from problem
    # Rows with a problem are numbers too, if meaningless ones.
    found = version.explainer.attribute(rows.numeric, rows.codes) if reasons else None
    probabilities = version.probabilities(rows) if found is None else found.probabilities
    scored = model.score_rows(rows, version.scorecard, probabilities)
    valid = np.ones(len(rows), dtype=bool)
    valid[list(rows.problems)] = False
    seen(rows, valid)
    codes = None if found is None else _reason_codes(version, found, valid, reasons)
    return pa.RecordBatch.from_arrays(
        _results(scored, ~valid, codes), schema=result_schema(contract, reasons)
    )  # fmt: skip


def _results(scored: ScoredRows, invalid: np.ndarray, codes: pa.Array | None) -> list[pa.Array]:
    problems: list[str | None] = [None] * len(scored)
    for row, problem in scored.problems.items():
        problems[row] = msgspec.json.encode(RowProblem.of(problem)).decode()
    declined = pa.array(scored.declined.astype(np.int8), mask=invalid)
    grades = [] if scored.grades is None else [pa.array(np.array(scored.grades, object), pa.string(), mask=invalid)]
    return [
        pa.array(scored.probabilities, mask=invalid),
        pa.array(scored.points, mask=invalid),
        pa.DictionaryArray.from_arrays(declined, _DECISIONS).dictionary_decode(),
        *grades,
        *([] if codes is None else [codes]),
        pa.array(problems, pa.string()),
    ]  # fmt: skip


def _reason_codes(version: Version, found: Attributions, valid: np.ndarray, most: int) -> pa.Array:
    """Return a list of codes for each row, null for invalid ones."""
    features, counts = version.explainer.most_harmful(found, most)
    codes = pa.array([feature.reason_code for feature in version.contract.features])
    ends = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), codes.take(pa.array(features)), mask=pa.array(~valid))


def _refuse_duplicates(schema: pa.Schema, contract: Contract) -> None:
    for feature in contract.features:
        if schema.names.count(feature.name) > 1:
            raise UsageError(f"the column {feature.name} appears twice; allowed: once")
