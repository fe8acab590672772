"""The training reference: how each feature was distributed in the data that a version learned from.

`training-reference.json` is a file of the version beside contract.json, which has the same of the score
(contracts/training-reference.schema.json). Versions that were trained before it existed have none: their features are
then compared with an earlier period of decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec

from decisions.drift.contract import Categorical, DriftContract, Feature, Numeric
from decisions.errors import DamagedError

FILE = "training-reference.json"


class NumericReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    """How often a number was below the first edge, between two, and from the last one on; and how often it lacked."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    missing: float


class CategoricalReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind",
                           tag="categorical"):  # fmt: skip
    """How often each of the contract's categories occurred, by its name; how often another one, or none."""

    counts: Mapping[str, float]
    missing: float
    other: float


class TrainingReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distributions of the features in the training data, by the features' names."""

    format_version: int
    training_data_sha256: str
    features: Mapping[str, NumericReference | CategoricalReference]


def read_reference(document: bytes, contract: DriftContract) -> TrainingReference:
    """Read a training reference, which must be the contract's.

    Raises:
        DamagedError: It is none, or one of other data or features.
    """
    try:
        reference = msgspec.json.decode(document, type=TrainingReference)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"not a training reference: {error}") from error
    if reference.format_version != 1:
        raise DamagedError(f"the training reference has format version {reference.format_version}; known is 1")
    if reference.training_data_sha256 != contract.training_data_sha256:
        raise DamagedError(
            "the training reference is of other data than the contract: their training_data_sha256 differ"
        )
    for feature in contract.features:
        if problem := _problem(feature, reference.features.get(feature.name)):
            raise DamagedError(f"the training reference, feature {feature.name}: {problem}")
    return reference


def _problem(feature: Feature, reference: NumericReference | CategoricalReference | None) -> str | None:
    match feature, reference:
        case Numeric(), NumericReference():
            if len(reference.counts) != len(reference.edges) + 1:
                return "counts must be one more than edges"
            if any(low >= high for low, high in pairwise(reference.edges)):
                return "edges must rise"
        case Categorical(), CategoricalReference():
            if reference.counts.keys() != set(feature.categories):
                return "its categories are not those of the contract"
        case _:
            return "it is not there, or of another kind"
    counts = reference.counts.values() if isinstance(reference, CategoricalReference) else reference.counts
    if min(*counts, reference.missing, 0) < 0 or sum(counts) + reference.missing <= 0:
        return "counts must not be negative, and not all 0"
    return None
