"""One model version in memory: its network, its contract, and what is made of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scorer.applications.decoder import ApplicationDecoder, encode
from scorer.applications.tables import TableReader
from scorer.contract import Contract, ContractError, read_contract
from scorer.model.microbatch import MicroBatcher
from scorer.model.network import Network
from scorer.model.reasons import Explainer, Explanation


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
class Model:
    """A version that is ready: batches by the network, single applications by `score` and `explain`, together."""

    identity: Identity
    contract: Contract
    decoder: ApplicationDecoder
    tables: TableReader
    network: Network
    explainer: Explainer
    score: MicroBatcher[float]
    explain: MicroBatcher[Explanation]


def load_model(folder: Path, identity: Identity) -> Model:
    """Load model.onnx and contract.json from a folder and score the reference applicant twice over, as a proof.

    Raises:
        ModelError: when a file is missing or broken, or when the network does not fit the contract.
    """
    try:
        contract = read_contract(folder / "contract.json")
    except (ContractError, OSError) as error:
        raise ModelError(str(error)) from error
    try:
        network = Network(folder / "model.onnx")
        numeric, codes = encode(contract, contract.reference_applicant)
        probe = network.score(np.repeat(numeric, 2, axis=0), np.repeat(codes, 2, axis=0))
    except Exception as error:
        raise ModelError(f"model.onnx cannot score the contract's reference applicant: {error}") from error
    if probe.shape != (2,) or not ((probe >= 0) & (probe <= 1)).all():
        raise ModelError(f"model.onnx answers {probe!r} for two applicants, not two probabilities")
    decoder = ApplicationDecoder(contract)
    explainer = Explainer(contract, network.score_many)
    return Model(
        identity, contract, decoder, TableReader(contract, decoder), network, explainer,
        score=MicroBatcher(lambda numeric, codes: network.score_many(numeric, codes).tolist()),
        explain=MicroBatcher(explainer.explain),
    )  # fmt: skip
