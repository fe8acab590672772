"""One model version in memory: its ONNX session and its contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from scorer.application import ApplicationDecoder, CodeRows, FloatRows, encode
from scorer.contract import Contract, ContractError, read_contract
from scorer.reasons import Explainer
from scorer.tables import TableReader

OUTPUT = "probability_of_default"
_PIECE_ROWS = 256


class ModelError(ValueError):
    """Files that make no servable model; the message says what is wrong with them."""


@dataclass(frozen=True)
class Identity:
    """Which version this is, as the registry knows it."""

    name: str
    version: str
    run_id: str
    digests: dict[str, str]
    metrics: dict[str, float]


class Network:
    """The model.onnx of a version."""

    def __init__(self, session: ort.InferenceSession, numeric: int, categorical: int) -> None:
        """Take the session and the numbers of features of each kind."""
        self._session = session
        # One row's inputs and output stay bound to the session: handing them over anew costs as much as a third of
        # the network. Only the event loop's thread may use them.
        self._numeric, self._codes = np.zeros((1, numeric), np.float32), np.zeros((1, categorical), np.int64)
        self._score = np.zeros(1, np.float32)
        self._bound = session.io_binding()
        for name, rows in (("numeric", self._numeric), ("categorical", self._codes)):
            if rows.shape[1]:
                self._bound.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(rows))
        self._bound.bind_ortvalue_output(OUTPUT, ort.OrtValue.ortvalue_from_numpy(self._score))

    def score_one(self, numeric: FloatRows, categorical: CodeRows) -> float:
        """Return the probability of default of one row; for the event loop's thread alone."""
        self._numeric[:], self._codes[:] = numeric, categorical
        self._session.run_with_iobinding(self._bound)
        return float(self._score[0])

    def score(self, numeric: FloatRows, categorical: CodeRows) -> npt.NDArray[np.float32]:
        """Return the probability of default, float32 [N], of N rows.

        Args:
            numeric: float32 [N, numeric features] in the contract's order and units.
            categorical: int64 [N, categorical features], positions in each feature's categories.
        """
        inputs: dict[str, FloatRows | CodeRows] = {"numeric": numeric, "categorical": categorical}
        # A model without features of one kind has no input for them.
        given = {name: rows for name, rows in inputs.items() if rows.shape[1]}
        scores: npt.NDArray[np.float32] = self._session.run([OUTPUT], given)[0]
        return scores

    def score_many(self, numeric: FloatRows, categorical: CodeRows) -> npt.NDArray[np.float32]:
        """Return what `score` does, a piece at a time: a piece's activations stay in the processor's cache."""
        pieces = range(0, len(numeric), _PIECE_ROWS)
        scores = [self.score(numeric[at : at + _PIECE_ROWS], categorical[at : at + _PIECE_ROWS]) for at in pieces]
        return np.concatenate(scores) if scores else np.empty(0, np.float32)


@dataclass(frozen=True)
class Model:
    """A version that is ready to score."""

    identity: Identity
    contract: Contract
    decoder: ApplicationDecoder
    tables: TableReader
    network: Network
    explainer: Explainer


def load_model(folder: Path, identity: Identity) -> Model:
    """Load model.onnx and contract.json from a folder and score the reference applicant once, as a proof.

    Raises:
        ModelError: when a file is missing or broken, or when the network does not fit the contract.
    """
    try:
        contract = read_contract(folder / "contract.json")
    except (ContractError, OSError) as error:
        raise ModelError(str(error)) from error
    options = ort.SessionOptions()
    # One row at a time on a shared core: more threads only wait for one another.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        network = Network(session, len(contract.numeric), len(contract.categorical))
        probe = network.score(*encode(contract, contract.reference_applicant))
    except Exception as error:
        raise ModelError(f"model.onnx cannot score the contract's reference applicant: {error}") from error
    if probe.shape != (1,) or not 0.0 <= float(probe[0]) <= 1.0:
        raise ModelError(f"model.onnx answers {probe!r} for one applicant, not one probability")
    decoder = ApplicationDecoder(contract)
    explainer = Explainer(contract, network.score)
    return Model(identity, contract, decoder, TableReader(contract, decoder), network, explainer)
