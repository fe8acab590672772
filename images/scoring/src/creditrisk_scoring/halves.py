"""A network in two halves, so that what one feature adds to the first layer is computed once for all mixtures.

Before its first activation, the network is a sum of what each feature adds (`units`). A mixture of a row and the
reference applicant differs from either by what one feature adds, so only the rest of the network has to be run for it:
a third of the whole, at the default size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from creditrisk_scoring.graph_file import FLOAT, GraphFile, Node
from scorer.applications.features import encode
from scorer.applications.rows import CodeRows, FloatRows
from scorer.contract import Contract
from scorer.model.mixtures import Mixtures, WholeMixtures
from scorer.model.network import OUTPUT, Network
from scorer.model.reasons import codes_of

# Of the mixtures that are scored at once: about what fits into a processor's cache beside what is computed from them.
_BLOCK_BYTES = 2 << 20
_PROBES = 64
_TOLERANCE = 1e-6
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Cut:
    """Where the graph is cut, as names of tensors, and its first layer (docs/model-contract.md#names-in-the-graph).

    Attributes:
        ramps: What is multiplied with the weights of numbers, [rows, numeric, ramps of a feature].
        units: The first layer before its activation, [rows, units].
        weights: The weights of numbers, float32 [numeric, ramps of a feature, units].
        table: What categories add, float32 [lines, units].
        strides: By how many lines a code moves, int64 [categorical, lines of a row].
        offset: The first lines, int64 [lines of a row].
    """

    ramps: str
    units: str
    weights: Floats
    table: Floats
    strides: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]


def mixtures_of(content: bytes, contract: Contract, network: Network) -> Mixtures:
    """Return what scores mixtures by halves of a model.onnx, or by all of it if it has no such halves."""
    reference = encode(contract, contract.reference_applicant)
    whole = WholeMixtures(network.score_many, *reference)
    graph = GraphFile(content)
    cut = _cut_of(graph, contract)
    if cut is None:
        return whole
    halves = HalfMixtures(graph, cut, contract, reference)
    rows = _probes(contract)
    needed = np.ones((_PROBES, 1 + 2 * len(contract.numeric) + len(contract.categorical)), dtype=bool)
    # Names are no proof that the graph is what they say.
    same = np.allclose(halves.score(*rows, needed), whole.score(*rows, needed), rtol=0, atol=_TOLERANCE)
    return halves if same else whole


def _cut_of(graph: GraphFile, contract: Contract) -> _Cut | None:
    numeric, categorical = len(contract.numeric), len(contract.categorical)
    weights, table = graph.constant("network.ramps"), graph.constant("network.table")
    strides, offset = graph.constant("network.strides"), graph.constant("network.offset")
    product = graph.node_with("Gemm", place=1, tensor="network.ramps")
    shaped = graph.node_with("Reshape", place=1, tensor="network.flat")
    if not categorical:
        strides, offset = np.zeros((0, 1), np.int64), np.zeros(1, np.int64)
    if weights is None or table is None or strides is None or offset is None or product is None or shaped is None:
        return None
    if product[0][0] != shaped[1] or len(weights) % numeric or len(strides) != categorical:
        return None
    by_feature = weights.reshape(numeric, -1, weights.shape[1])
    return _Cut(shaped[0][0], product[1], by_feature, table, strides, offset)


class HalfMixtures:
    """Scores mixtures by the two halves of a network."""

    def __init__(self, graph: GraphFile, cut: _Cut, contract: Contract, reference: tuple[FloatRows, CodeRows]) -> None:
        """Compute the reference applicant's units, and what each category adds to them."""
        self._cut, self._width = cut, len(contract.numeric)
        (usual,) = _session(graph.part({"numeric": FLOAT}, [cut.ramps])).run(None, {"numeric": reference[0]})
        beside = Node("Sub", (cut.ramps, "usual"), "beside", {})
        self._ramps = _session(graph.part({"numeric": FLOAT}, ["beside"], [beside], {"usual": usual[0]}))
        product = [
            Node("Transpose", ("beside",), "by_number", {"perm": (1, 0, 2)}),
            Node("MatMul", ("by_number", "weights"), "added", {}),
        ]
        self._product = _session(graph.part({"beside": FLOAT}, ["added"], product, {"weights": cut.weights}))
        self._rest = _session(graph.part({cut.units: FLOAT}, [OUTPUT]))
        # Numbers are added beside the reference's, which each row's first line has.
        self._table = cut.table.copy()
        numbers = np.einsum("fr,fru->u", usual[0], cut.weights, dtype=np.float64).astype(np.float32)
        self._table[: cut.offset[1] if len(cut.offset) > 1 else None] += numbers
        self._reference = self._words(reference[1])
        # What replacing each code by the reference's adds, feature after feature.
        codes = [codes_of(feature) for feature in contract.categorical]
        self._starts = np.cumsum([0, *map(len, codes)], dtype=np.int64)[:-1]
        rows = np.repeat(reference[1], sum(map(len, codes)), axis=0)
        for column, (start, values) in enumerate(zip(self._starts, codes, strict=True)):
            rows[start : start + len(values), column] = values
        self._replaced = self._reference - self._words(rows)

    def score(self, numeric: FloatRows, codes: CodeRows, needed: npt.NDArray[np.bool_]) -> Floats:
        """Return what `Mixtures.score` describes."""
        width, last = self._width, needed.shape[1] - self._width
        scores = np.zeros(needed.shape, np.float32)
        (beside,) = self._ramps.run(None, {"numeric": numeric})
        words = self._lines(codes)
        other, alone = _Picks.of(needed[:, 1 + width : last]), _Picks.of(needed[:, last:])
        changes = self._starts[other.columns] + codes[other.rows, other.columns]
        of_other, of_alone = np.zeros(len(changes), np.float32), np.zeros(len(alone.rows), np.float32)
        count = max(1, _BLOCK_BYTES // (needed.shape[1] * self._reference.nbytes))
        mixed, spare = (_Memory(count * needed.shape[1], self._reference.shape[1]) for _ in range(2))
        for at in range(0, len(numeric), count):
            block = slice(at, at + count)
            first, second = other.within(block), alone.within(block)
            mixed.clear()
            units, added = self._first_half(beside[block], words[block], mixed, spare)
            replaced = _take(units, other.rows[first] - at, mixed.more(first.stop - first.start))
            replaced += _take(self._replaced, changes[first], spare.of(len(replaced)))
            place = alone.columns[second] * len(units) + alone.rows[second] - at
            single = _take(added, place, mixed.more(len(place)))
            single += self._reference
            (found,) = self._rest.run(None, {self._cut.units: mixed.rows})
            whole, numbers, of_other[first], of_alone[second] = np.split(
                found, np.cumsum([len(units), len(added), first.stop - first.start])
            )
            scores[block, 0], scores[block, 1 : 1 + width] = whole, numbers.reshape(width, -1).T
        scores[other.rows, 1 + width + other.columns] = of_other
        scores[alone.rows, last + alone.columns] = of_alone
        return scores

    def _first_half(
        self, beside: Floats, words: npt.NDArray[np.int64], mixed: _Memory, spare: _Memory
    ) -> tuple[Floats, Floats]:
        """Mix N rows with nothing, then each of their numbers with the reference's.

        Returns:
            The rows' units, [N, units], and what each number adds beside the reference's, [numeric * N, units].
        """
        (added,) = self._product.run(None, {"beside": beside})
        units = mixed.more(len(beside))
        np.add.reduce(added, axis=0, out=units)
        for lines in words.T:
            units += _take(self._table, lines, spare.of(len(lines)))
        without = mixed.more(len(added) * len(units)).reshape(added.shape)
        np.subtract(units, added, out=without)
        return units, added.reshape(-1, added.shape[2])

    def _lines(self, codes: CodeRows) -> npt.NDArray[np.int64]:
        return np.asarray(codes @ self._cut.strides + self._cut.offset)

    def _words(self, codes: CodeRows) -> Floats:
        return np.asarray(self._table[self._lines(codes)].sum(1))


class _Memory:
    """Rows of units that are used again for each block: fresh memory would cost as much as what is computed in it."""

    def __init__(self, rows: int, units: int) -> None:
        self._all, self._used = np.empty((rows, units), np.float32), 0

    @property
    def rows(self) -> Floats:
        """The rows that are in use."""
        return self._all[: self._used]

    def clear(self) -> None:
        """Give all rows back."""
        self._used = 0

    def of(self, count: int) -> Floats:
        """Return the first rows, for something that is needed for a moment."""
        return self._all[:count]

    def more(self, count: int) -> Floats:
        """Return rows that are not in use yet."""
        self._used += count
        return self._all[self._used - count : self._used]


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
        rows, columns = np.nonzero(table)
        return cls(rows, columns, np.cumsum(table.sum(1)))

    def within(self, rows: slice) -> slice:
        """Return where the entries of some rows are."""
        return slice(int(self.ends[rows.start - 1]) if rows.start else 0, int(self.ends[: rows.stop][-1]))


def _take(rows: Floats, places: npt.NDArray[np.int64], target: Floats) -> Floats:
    """Copy some rows into others, and return these."""
    # With the default mode, numpy would copy them twice.
    return np.take(rows, places, axis=0, out=target, mode="clip")


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
