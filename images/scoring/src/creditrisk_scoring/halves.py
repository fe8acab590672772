"""A network in two halves, so that what one feature adds to the first layer is computed once for all mixtures.

Before its first activation, the network is a sum of what each feature adds (`units`). A mixture of a row and the
reference applicant differs from either by what one feature adds, so only the rest of the network has to be run for it:
a third of the whole, at the default size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from creditrisk_scoring.graph_file import FLOAT, INT64, GraphFile, Node
from scorer.applications.features import encode
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import Contract
from scorer.model.mixtures import Mixtures, WholeMixtures
from scorer.model.network import OUTPUT, Network
from scorer.model.reasons import codes_of

# Their mixtures, about twelve of each, nearly fit into the processor's cache.
_BLOCK_ROWS = 48
_PROBES = 64
_TOLERANCE = 1e-6
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Cut:
    """Where the graph of docs/model-contract.md#the-first-layer is cut, as names of tensors.

    Attributes:
        ramps: What is multiplied with the weights of numbers, [rows, numeric, ramps of a feature].
        words: What all categories add, [rows, units].
        units: The sum of both products, [rows, units].
        weights: The weights of numbers, float32 [numeric, ramps of a feature, units].
    """

    ramps: str
    words: str
    units: str
    weights: Floats


def mixtures_of(content: bytes, contract: Contract, network: Network) -> Mixtures:
    """Return what scores mixtures by halves of the network in a model.onnx, or by all of it if it has no such halves."""
    reference = encode(contract, contract.reference_applicant)
    whole = WholeMixtures(network.score_many, *reference)
    graph = GraphFile(content)
    cut = _cut_of(graph, len(contract.numeric))
    if cut is None:
        return whole
    halves = HalfMixtures(graph, cut, contract, reference)
    rows = _probes(contract)
    needed = np.ones((_PROBES, 1 + 2 * len(contract.numeric) + len(contract.categorical)), dtype=bool)
    # Names are no proof that the graph is what they say.
    same = np.allclose(halves.score(*rows, needed), whole.score(*rows, needed), rtol=0, atol=_TOLERANCE)
    return halves if same else whole


def _cut_of(graph: GraphFile, numeric: int) -> _Cut | None:
    weights = graph.constant("network.ramps")
    product = graph.node_with("Gemm", place=1, tensor="network.ramps")
    shaped = graph.node_with("Reshape", place=1, tensor="network.flat")
    if weights is None or product is None or shaped is None or product[0][0] != shaped[1] or len(weights) % numeric:
        return None
    (_, _, words), units = product
    return _Cut(shaped[0][0], words, units, weights.reshape(numeric, -1, weights.shape[1]))


class HalfMixtures:
    """Scores mixtures by the two halves of a network."""

    def __init__(self, graph: GraphFile, cut: _Cut, contract: Contract, reference: tuple[FloatRows, CodeRows]) -> None:
        """Compute what each category adds."""
        self._width = len(contract.numeric)
        given = {"numeric": FLOAT, "categorical": INT64}
        (usual,) = _session(graph.part(given, [cut.ramps])).run([cut.ramps], {"numeric": reference[0]})
        self._first = _session(graph.part(given, ["added", "words"], _first_half(cut), {
            "usual": usual[0], "weights": cut.weights,
            "constant": np.einsum("fr,fru->u", usual[0], cut.weights, dtype=np.float64).astype(np.float32),
        }))  # fmt: skip
        self._rest = _session(graph.part({cut.units: FLOAT}, [OUTPUT]))
        self._units = cut.units
        self._inputs = [given.name for given in self._first.get_inputs()]
        self._reference = self._run_first(*reference)[1]
        # What replacing each code by the reference's adds, feature after feature.
        codes = [codes_of(feature) for feature in contract.categorical]
        self._offsets = np.cumsum([0, *map(len, codes)], dtype=np.int64)[:-1]
        rows = np.repeat(reference[1], sum(map(len, codes)), axis=0)
        for column, (start, values) in enumerate(zip(self._offsets, codes, strict=True)):
            rows[start : start + len(values), column] = values
        self._replaced = self._reference - self._run_first(np.repeat(reference[0], len(rows), axis=0), rows)[1]

    def score(self, numeric: FloatRows, codes: CodeRows, needed: npt.NDArray[np.bool_]) -> Floats:
        """Return what `Mixtures.score` describes."""
        width = self._width
        scores = np.zeros(needed.shape, np.float32)
        replaced = _Picks.of(needed[:, 1 + width : -width])
        lines = self._offsets[replaced.columns] + codes[replaced.rows, replaced.columns]
        alone = _Picks.of(needed[:, -width:])
        found = np.zeros(len(lines), np.float32), np.zeros(len(alone.rows), np.float32)
        # Of one block after the other: fresh memory would cost as much as what is computed in it.
        mixed = np.empty((_BLOCK_ROWS * needed.shape[1], self._reference.shape[1]), np.float32)
        spare = np.empty((_BLOCK_ROWS * (needed.shape[1] - 1 - 2 * width), mixed.shape[1]), np.float32)
        for at in range(0, len(numeric), _BLOCK_ROWS):
            block = slice(at, at + _BLOCK_ROWS)
            added, words = self._run_first(numeric[block], codes[block])
            count, of_codes, of_numbers = len(words), replaced.within(block), alone.within(block)
            ends = np.cumsum([count, width * count, of_codes.stop - of_codes.start, of_numbers.stop - of_numbers.start])
            units, without, swapped, single = np.split(mixed[: ends[-1]], ends[:-1])
            np.add.reduce(added, axis=0, out=units)
            units += words
            np.subtract(units, added, out=without.reshape(added.shape))
            np.take(units, replaced.rows[of_codes] - at, axis=0, out=swapped, mode="clip")
            np.take(self._replaced, lines[of_codes], axis=0, out=spare[: len(swapped)], mode="clip")
            swapped += spare[: len(swapped)]
            place = alone.columns[of_numbers] * count + alone.rows[of_numbers] - at
            np.take(added.reshape(width * count, -1), place, axis=0, out=single, mode="clip")
            single += self._reference
            (rest,) = self._rest.run([OUTPUT], {self._units: mixed[: ends[-1]]})
            scores[block, 0] = rest[:count]
            scores[block, 1 : 1 + width] = rest[count : ends[1]].reshape(width, count).T
            found[0][of_codes], found[1][of_numbers] = rest[ends[1] : ends[2]], rest[ends[2] :]
        scores[replaced.rows, 1 + width + replaced.columns] = found[0]
        scores[alone.rows, needed.shape[1] - width + alone.columns] = found[1]
        return scores

    def _run_first(self, numeric: FloatRows, codes: CodeRows) -> tuple[Floats, Floats]:
        """Return what each number adds beside the reference's, [numeric, N, units], and the units, [N, units]."""
        rows: dict[str, Any] = {"numeric": numeric, "categorical": codes}
        added, units = self._first.run(["added", "words"], {name: rows[name] for name in self._inputs})
        return added, units


@dataclass(frozen=True)
class _Picks:
    """Entries of a table, row after row.

    Attributes:
        rows: Their rows.
        columns: Their columns.
        ends: How many entries there are up to and with each row.
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, table: npt.NDArray[np.bool_]) -> _Picks:
        """Return the entries that are true."""
        return cls(*np.nonzero(table), np.cumsum(table.sum(1)))

    def within(self, rows: slice) -> slice:
        """Return where the entries of some rows are."""
        return slice(int(self.ends[rows.start - 1]) if rows.start else 0, int(self.ends[: rows.stop][-1]))


def _first_half(cut: _Cut) -> list[Node]:
    """Return the operations from ramps to units that keep what each number adds."""
    return [
        Node("Sub", (cut.ramps, "usual"), "beside", {}),
        Node("Transpose", ("beside",), "by_number", {"perm": (1, 0, 2)}),
        Node("MatMul", ("by_number", "weights"), "added", {}),
        Node("Add", (cut.words, "constant"), "words", {}),
    ]


def _probes(contract: Contract) -> tuple[FloatRows, CodeRows]:
    """Return rows of all kinds of values."""
    draw = np.random.default_rng(0)
    ranges = np.array([feature.training_range for feature in contract.numeric])
    numeric = draw.uniform(ranges[:, 0], ranges[:, 1], (_PROBES, len(ranges))).astype(np.float32)
    missing = np.array([bool(feature.missing) for feature in contract.numeric])
    numeric[(draw.random(numeric.shape) < 0.2) & missing] = np.nan
    codes = [draw.choice(codes_of(feature), _PROBES) for feature in contract.categorical]
    return numeric, np.stack(codes, 1) if codes else np.zeros((_PROBES, 0), np.int64)


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
