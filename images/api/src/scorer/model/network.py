"""The model.onnx of a version, as a function of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from scorer.applications.decoder import CodeRows, FloatRows

OUTPUT = "probability_of_default"
# A piece's activations stay in the processor's cache.
_PIECE_ROWS = 128


class Network:
    """An ONNX session on one core."""

    def __init__(self, file: Path) -> None:
        """Load the graph.

        Raises:
            Exception: onnxruntime's own kinds, for a file that is no graph or one that it cannot run.
        """
        options = ort.SessionOptions()
        # Calls are short and the core is shared: more threads only wait for one another.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        # A model without features of one kind has no input for them.
        self._inputs = {given.name for given in self._session.get_inputs()}

    def score(self, numeric: FloatRows, categorical: CodeRows) -> npt.NDArray[np.float32]:
        """Return the probability of default, float32 [N], of N rows.

        Args:
            numeric: float32 [N, numeric features] in the contract's order and units.
            categorical: int64 [N, categorical features], positions in each feature's categories.
        """
        rows: dict[str, FloatRows | CodeRows] = {"numeric": numeric, "categorical": categorical}
        scores: npt.NDArray[np.float32] = self._session.run([OUTPUT], {name: rows[name] for name in self._inputs})[0]
        return scores

    def score_many(self, numeric: FloatRows, categorical: CodeRows) -> npt.NDArray[np.float32]:
        """Return what `score` does, a piece at a time."""
        if len(numeric) <= _PIECE_ROWS:
            return self.score(numeric, categorical)
        pieces = range(0, len(numeric), _PIECE_ROWS)
        return np.concatenate([
            self.score(numeric[at : at + _PIECE_ROWS], categorical[at : at + _PIECE_ROWS]) for at in pieces
        ])  # fmt: skip
