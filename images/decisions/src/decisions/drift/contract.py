"""What drift needs of a model version's contract.json, of any format version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from decisions.errors import DamagedError


class Numeric(msgspec.Struct, frozen=True, tag_field="kind", tag="numeric"):
    """A number; the range of the training data is the declared one in contracts before version 3."""

    name: str
    minimum: float
    maximum: float
    unit: str = ""
    description: str = ""
    reason_code: str = ""
    protected: bool = False
    training_minimum: float | None = None
    training_maximum: float | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that training has seen."""
        low, high = self.training_minimum, self.training_maximum
        return self.minimum if low is None else low, self.maximum if high is None else high


class Categorical(msgspec.Struct, frozen=True, tag_field="kind", tag="categorical"):
    """One of a list of categories."""

    name: str
    categories: tuple[str, ...]
    description: str = ""
    reason_code: str = ""
    protected: bool = False


Feature = Numeric | Categorical


class ScoreHistogram(msgspec.Struct, frozen=True):
    """How often probabilities of default were between two edges; one edge more than counts."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


class Grade(msgspec.Struct, frozen=True):
    """A grade of the master scale."""

    name: str
    upper_probability: float


class DriftContract(msgspec.Struct, frozen=True):
    """The parts of a contract.json that drift is measured against."""

    model_name: str
    features: Annotated[tuple[Feature, ...], msgspec.Meta(min_length=1)]
    score_histogram: ScoreHistogram
    training_data_sha256: str
    ignored: Sequence[str] = ()
    grades: Sequence[Grade] = ()
    default_rate: float | None = None

    def reason_texts(self) -> dict[str, str]:
        """What each reason code is about, by the code."""
        return {feature.reason_code: feature.description or feature.name for feature in self.features}


def read_drift_contract(document: bytes) -> DriftContract:
    """Read a contract.json.

    Raises:
        DamagedError: It is not one.
    """
    try:
        contract = msgspec.json.decode(document, type=DriftContract)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"not a model contract: {error}") from error
    edges, counts = contract.score_histogram.edges, contract.score_histogram.counts
    if len(edges) != len(counts) + 1 or list(edges) != sorted(set(edges)):
        raise DamagedError("not a model contract: score_histogram.edges must rise, and be one more than its counts")
    return contract
