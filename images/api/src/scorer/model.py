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


@dataclass(frozen=True)
class Network:
    """The model.onnx of a version."""

    _session: ort.InferenceSession

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
        network = Network(session)
        probe = network.score(*encode(contract, contract.reference_applicant))
    except Exception as error:
        raise ModelError(f"model.onnx cannot score the contract's reference applicant: {error}") from error
    if probe.shape != (1,) or not 0.0 <= float(probe[0]) <= 1.0:
        raise ModelError(f"model.onnx answers {probe!r} for one applicant, not one probability")
    decoder = ApplicationDecoder(contract)
    explainer = Explainer(contract, network.score)
    return Model(identity, contract, decoder, TableReader(contract, decoder), network, explainer)
