"""The model contract, format version 1, as docs/model-contract.md describes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

FORMAT_VERSION = 1
FLOAT32_MAX = 3.4028234e38
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class ContractError(ValueError):
    """A contract that this service cannot serve; the message says which part of it and why."""


class NumericFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    """A number with its unit; `minimum` and `maximum` are both allowed."""

    name: NonEmpty
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: NonEmpty
    protected: bool


class CategoricalFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="categorical"):
    """One of a list of words; a word's position is its number in the model's input."""

    name: NonEmpty
    categories: Annotated[tuple[NonEmpty, ...], msgspec.Meta(min_length=1)]
    description: str
    reason_code: NonEmpty
    protected: bool


Feature = NumericFeature | CategoricalFeature


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of scores between rising edges from 0 to 1."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that serving knows of a model besides the network itself."""

    format_version: Literal[1]
    model_name: NonEmpty
    features: Annotated[tuple[Feature, ...], msgspec.Meta(min_length=1)]
    reference_applicant: dict[str, float | str]
    score_histogram: Histogram
    decision_threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    training_data_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

    @property
    def numeric(self) -> tuple[NumericFeature, ...]:
        """The numeric features, in the order of the model's columns."""
        return tuple(feature for feature in self.features if isinstance(feature, NumericFeature))

    @property
    def categorical(self) -> tuple[CategoricalFeature, ...]:
        """The categorical features, in the order of the model's columns."""
        return tuple(feature for feature in self.features if isinstance(feature, CategoricalFeature))


def read_contract(file: Path) -> Contract:
    """Read and check a contract.json.

    Raises:
        ContractError: when it is no contract of this format version, or contradicts itself.
    """
    try:
        contract = msgspec.json.decode(file.read_bytes(), type=Contract)
    except msgspec.MsgspecError as error:
        raise ContractError(f"{file.name} is no contract of format version {FORMAT_VERSION}: {error}") from error
    if problem := next(_contradictions(contract), None):
        raise ContractError(f"{file.name} contradicts itself: {problem}")
    return contract


def _contradictions(contract: Contract) -> Iterator[str]:
    names = [feature.name for feature in contract.features]
    edges, counts = contract.score_histogram.edges, contract.score_histogram.counts
    yield from (f"feature {name} stands twice" for name in set(names) if names.count(name) > 1)
    for number in contract.numeric:
        if number.minimum > number.maximum:
            yield f"{number.name}: minimum {number.minimum} is above maximum {number.maximum}"
        if max(abs(number.minimum), abs(number.maximum)) > FLOAT32_MAX:
            yield f"{number.name}: its range is wider than the float32 of the model's input"
    for word in contract.categorical:
        if len(set(word.categories)) < len(word.categories):
            yield f"{word.name}: a category stands twice"
    if set(contract.reference_applicant) != set(names):
        yield "reference_applicant has other names than features"
    if any(upper <= lower for lower, upper in itertools.pairwise(edges)):
        yield "score_histogram.edges do not rise"
    if len(edges) != len(counts) + 1:
        yield "score_histogram has not one edge more than counts"
