"""The model contract, format versions 1 and 2, as docs/model-contract.md describes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

FORMAT_VERSION = 2
FLOAT32_MAX = 3.4028234e38
# Accepted beside the features: keeps an applicant on the same side of a canary.
APPLICANT_ID = "applicant_id"
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class ContractError(ValueError):
    """A contract that this service cannot serve; the message names the part and the reason."""


class NumericFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    """A number with a unit; `minimum` and `maximum` are both allowed values."""

    name: NonEmpty
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: NonEmpty
    protected: bool


class CategoricalFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="categorical"):
    """One of a closed list of categories; a category's index is its code in the model's input."""

    name: NonEmpty
    categories: Annotated[tuple[NonEmpty, ...], msgspec.Meta(min_length=1)]
    description: str
    reason_code: NonEmpty
    protected: bool


Feature = NumericFeature | CategoricalFeature


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of scores between edges that increase from 0 to 1."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the service knows about a model except the network itself."""

    format_version: Literal[1, 2]
    model_name: NonEmpty
    features: Annotated[tuple[Feature, ...], msgspec.Meta(min_length=1)]
    reference_applicant: dict[str, float | str]
    score_histogram: Histogram
    decision_threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    training_data_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    ignored: tuple[NonEmpty, ...] = ()

    @property
    def numeric(self) -> tuple[NumericFeature, ...]:
        """The numeric features, in the order of the model's columns."""
        return tuple(feature for feature in self.features if isinstance(feature, NumericFeature))

    @property
    def categorical(self) -> tuple[CategoricalFeature, ...]:
        """The categorical features, in the order of the model's columns."""
        return tuple(feature for feature in self.features if isinstance(feature, CategoricalFeature))

    @property
    def max_reasons(self) -> int:
        """The most reasons a request may ask for: one per field that clients of this or an older model send."""
        return len(self.features) + len(self.ignored)


class _IgnoredKey(msgspec.Struct):
    ignored: msgspec.Raw | UnsetType = UNSET


def read_contract(file: Path) -> Contract:
    """Read and check a contract.json; one of version 1 is returned as version 2 without ignored fields.

    Raises:
        ContractError: If it is not a contract of a known format version, or contradicts itself.
    """
    try:
        document = file.read_bytes()
        contract = msgspec.json.decode(document, type=Contract)
        has_ignored = msgspec.json.decode(document, type=_IgnoredKey).ignored is not UNSET
    except msgspec.MsgspecError as error:
        raise ContractError(
            f"{file.name} is not a contract of format version 1 or {FORMAT_VERSION}: {error}"
        ) from error
    if has_ignored != (contract.format_version >= 2):
        rule = "has no key `ignored`" if has_ignored else "requires the key `ignored`"
        raise ContractError(f"{file.name}: format version {contract.format_version} {rule}")
    if problem := next(_contradictions(contract), None):
        raise ContractError(f"{file.name} contradicts itself: {problem}")
    return msgspec.structs.replace(contract, format_version=FORMAT_VERSION)


def _contradictions(contract: Contract) -> Iterator[str]:
    names = [feature.name for feature in contract.features]
    yield from (f"feature {name} appears twice" for name in set(names) if names.count(name) > 1)
    yield from (f"feature {name}: the name is reserved" for name in names if name == APPLICANT_ID)
    yield from _ignored_contradictions(contract, names)
    for number in contract.numeric:
        if number.minimum > number.maximum:
            yield f"{number.name}: minimum {number.minimum} is above maximum {number.maximum}"
        if max(abs(number.minimum), abs(number.maximum)) > FLOAT32_MAX:
            yield f"{number.name}: the range exceeds the float32 of the model's input"
    for word in contract.categorical:
        if len(set(word.categories)) < len(word.categories):
            yield f"{word.name}: a category appears twice"
    if set(contract.reference_applicant) != set(names):
        yield "reference_applicant and features have different names"
    yield from _histogram_contradictions(contract.score_histogram)


def _ignored_contradictions(contract: Contract, names: list[str]) -> Iterator[str]:
    for name in contract.ignored:
        if name in names:
            yield f"ignored field {name} is also a feature"
        if name == APPLICANT_ID:
            yield f"ignored field {name}: the name is reserved"
        if contract.ignored.count(name) > 1:
            yield f"ignored field {name} appears twice"


def _histogram_contradictions(histogram: Histogram) -> Iterator[str]:
    edges, counts = histogram.edges, histogram.counts
    if any(upper <= lower for lower, upper in itertools.pairwise(edges)):
        yield "score_histogram.edges do not increase"
    if len(edges) != len(counts) + 1:
        yield "score_histogram must have one more edge than counts"
