"""A version's model.onnx as a function from rows to probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from scorer.applications.rows import CodeRows, FloatRows

OUTPUT = "probability_of_default"
# The activations of this many rows fit into the processor's cache.
CHUNK_ROWS = 128


class Network:
    """An ONNX session on one core."""

    def __init__(self, file: Path) -> None:
        """Load the graph.

        Raises:
            Exception: onnxruntime's own types, for a file that is not a graph or that it cannot run.
        """
        options = ort.SessionOptions()
        # Calls are short and the core is shared: more threads would only wait for each other.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        # A model without numeric or without categorical features lacks that input.
        self._inputs = {given.name for given in self._session.get_inputs()}

    def score(self, numeric: FloatRows, categorical: CodeRows) -> npt.NDArray[np.float32]:
        """Return the probability of default, float32 [N], of N rows.

        Args:
            numeric: float32 [N, numeric features] in the contract's order and units.
            categorical: int64 [N, categorical features], indices into each feature's categories.
        """
        rows: dict[str, FloatRows | CodeRows] = {"numeric": numeric, "categorical": categorical}
        scores: npt.NDArray[np.float32] = self._session.run([OUTPUT], {name: rows[name] for name in self._inputs})[0]
        return scores

    def score_many(
        self, numeric: FloatRows, categorical: CodeRows, chunk_rows: int = CHUNK_ROWS
    ) -> npt.NDArray[np.float32]:
        """Return what `score` returns, computed in chunks."""
        if len(numeric) <= chunk_rows:
            return self.score(numeric, categorical)
        starts = range(0, len(numeric), chunk_rows)
        return np.concatenate([
            self.score(numeric[at : at + chunk_rows], categorical[at : at + chunk_rows]) for at in starts
        ])  # fmt: skip
