"""One model version in memory: its network, its contract, what is built from both, and the slot that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scorer.answers import Decision, ModelReference
from scorer.applications.decoder import ApplicationDecoder
from scorer.applications.features import PROBES, encode, probes_of
from scorer.applications.tables import Rows, TableReader
from scorer.applications.unusual import UnusualRows, UnusualValues
from scorer.contract import Contract, ContractError, read_contract
from scorer.model.identity import Identity
from scorer.model.microbatch import MicroBatcher
from scorer.model.network import Network
from scorer.model.readiness import ModelError, ReadinessCode
from scorer.model.reasons import Explainer, Explanation
from scorer.model.scorecard import MasterScale, Scorecard
from scorer.problems import Problem


@dataclass(frozen=True)
class Model:
    """A version that is ready to score.

    Attributes:
        identity: Which version it is.
        contract: What it needs and how its answers are judged.
        document: contract.json, byte for byte.
        decoder: Reads single applications.
        tables: Reads batches.
        unusual: Finds values unlike those of training.
        network: Scores batches.
        explainer: Finds reasons.
        score: Scores single applications, several in one call of the network.
        explain: Explains single applications, likewise.
    """

    identity: Identity
    contract: Contract
    document: bytes
    decoder: ApplicationDecoder
    tables: TableReader
    unusual: UnusualValues
    network: Network
    explainer: Explainer
    score: MicroBatcher[float]
    explain: MicroBatcher[Explanation]

    @cached_property
    def reference(self) -> ModelReference:
        """The version, as answers name it."""
        return ModelReference(self.identity.name, self.identity.version)

    @cached_property
    def scale(self) -> MasterScale | None:
        """The contract's grades; None if it has none."""
        return MasterScale(self.contract.grades) if self.contract.grades else None

    def score_rows(
        self, rows: Rows, scorecard: Scorecard, probabilities: npt.NDArray[np.float32] | None = None
    ) -> ScoredRows:
        """Score a batch, whose probabilities may be known; rows with a problem get numbers that mean nothing."""
        if probabilities is None:
            probabilities = self.network.score_many(rows.numeric, rows.codes)
        declined = probabilities.astype(np.float64) >= self.contract.decision_threshold
        points = scorecard.points_of(probabilities)
        unusual = self.unusual.find(rows.numeric, rows.codes, rows.problems)
        grades = self.scale.grades_of(probabilities) if self.scale else None
        return ScoredRows(self, probabilities, points, declined, grades, rows.problems, unusual)


@dataclass(frozen=True)
class ScoredRows:
    """A scored batch.

    Attributes:
        model: The model that scored it.
        probabilities: float32 [N]; meaningless for rows with a problem.
        points: int32 [N], likewise.
        declined: bool [N], likewise.
        grades: The rows' grades, likewise; None if the model has none.
        problems: What is wrong, by row.
        unusual: Values unlike those of training.
    """

    model: Model
    probabilities: npt.NDArray[np.float32]
    points: npt.NDArray[np.int32]
    declined: npt.NDArray[np.bool_]
    grades: list[str] | None
    problems: Mapping[int, Problem]
    unusual: UnusualRows

    def __len__(self) -> int:
        """Return N."""
        return len(self.probabilities)

    @property
    def decisions(self) -> list[Decision]:
        """The rows' decisions."""
        return ["decline" if declined else "approve" for declined in self.declined.tolist()]


@dataclass
class ModelSlot:
    """Holds the model, or why there is none yet.

    Attributes:
        model: The model; never removed once it is there.
        code: Why there is no model yet, for programs.
        reason: The same for people.
        draining: Whether the pod is shutting down.
    """

    model: Model | None = None
    code: ReadinessCode = ReadinessCode.STARTING
    reason: str = "no attempt to load a model has finished yet"
    draining: bool = False

    @property
    def readiness(self) -> ReadinessCode:
        """Whether the pod should get requests, or why not, for programs."""
        if self.draining:
            return ReadinessCode.DRAINING
        return ReadinessCode.READY if self.model else self.code

    @property
    def not_ready(self) -> str | None:
        """Why the pod should get no requests, for people; None if it should."""
        if self.draining:
            return "the pod is shutting down"
        return None if self.model else self.reason

    def require(self) -> Model:
        """Return the model.

        Raises:
            Problem: 503 with the reason if there is none yet.
        """
        if self.model is None:
            raise Problem(503, f"not ready: {self.reason}", headers=(("Retry-After", "5"),))
        return self.model


def load_model(folder: Path, identity: Identity) -> Model:
    """Load model.onnx and contract.json from a folder, and prove that they work.

    The proof is the reference applicant's score, as it is and with all that may be missing or another category.

    Raises:
        ModelError: If a file is missing or corrupt, or if the network does not fit the contract.
    """
    try:
        contract = read_contract(folder / "contract.json")
        document = (folder / "contract.json").read_bytes()
    except (ContractError, OSError) as error:
        raise ModelError(str(error)) from error
    try:
        network = Network(folder / "model.onnx")
        probe = network.score(*probes_of(contract, *encode(contract, contract.reference_applicant)))
    except Exception as error:
        raise ModelError(f"model.onnx cannot score the contract's reference applicant: {error}") from error
    if probe.shape != (PROBES,) or not ((probe >= 0) & (probe <= 1)).all():
        raise ModelError(f"model.onnx answers {probe!r} for {PROBES} applicants instead of {PROBES} probabilities")
    try:
        decoder = ApplicationDecoder(contract)
    except ValueError as error:
        raise ModelError(f"applications with the fields of contract.json cannot be decoded: {error}") from error
    explainer = Explainer(contract, network.score_many)
    return Model(
        identity, contract, document, decoder, TableReader(contract, decoder), UnusualValues(contract), network,
        explainer,
        score=MicroBatcher(lambda numeric, codes: network.score_many(numeric, codes).tolist()),
        explain=MicroBatcher(explainer.explain),
    )  # fmt: skip
