"""How features are distributed, beside the training data's: what `training-reference.json` of a version describes.

The bins are those of drift reports (docs/drift.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from creditrisk_scoring.errors import UsageError
from scorer.applications.tables import Rows
from scorer.contract import CategoricalFeature, Contract, Feature

REFERENCE = "training-reference.json"
_ADDED_ROWS = 0.5
_FORMAT_VERSION = 1


class _Numeric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    missing: float


class _Categorical(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="categorical"):
    counts: dict[str, float]
    missing: float
    other: float


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format_version: int
    training_data_sha256: str
    features: dict[str, _Numeric | _Categorical]


@dataclass(frozen=True)
class TrainingReference:
    """How each feature was distributed in the training data.

    Attributes:
        counts: Training rows in each bin of a feature, by its name: of numbers between the edges, then missing; of
            categories theirs, then missing and other.
        edges: Of each numeric feature, in the contract's order: float32, rising.
    """

    counts: Mapping[str, tuple[float, ...]]
    edges: Sequence[npt.NDArray[np.float32]]

    def count(self, rows: Rows, valid: npt.NDArray[np.bool_], contract: Contract) -> dict[str, npt.NDArray[np.int64]]:
        """Return how many of the valid applications are in each of a feature's bins, by the feature's name.

        Args:
            rows: Encoded applications, N of them.
            valid: Which of them count, [N].
            contract: Theirs.
        """
        numbers, codes = (array.T if valid.all() else array[valid].T for array in (rows.numeric, rows.codes))
        found = {
            feature.name: _between(values, edges)
            for feature, values, edges in zip(contract.numeric, numbers, self.edges, strict=True)
        }
        for feature, column in zip(contract.categorical, codes, strict=True):
            found[feature.name] = np.bincount(column, minlength=len(self.counts[feature.name]))
        return found


def _between(values: npt.NDArray[np.float32], edges: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return how many numbers, [N] with NaN for missing ones, are in each bin."""
    values = np.ascontiguousarray(values)
    missing = int(np.count_nonzero(np.isnan(values)))
    # Several times as fast as a search for each value; what is no number is from no edge on.
    from_edge = [len(values) - missing, *(int(np.count_nonzero(values >= edge)) for edge in edges), 0]
    return np.array([*(low - high for low, high in pairwise(from_edge)), missing], np.int64)


def read_reference(document: bytes, contract: Contract) -> TrainingReference:
    """Read a training reference, which must be the contract's.

    Raises:
        UsageError: It is none, or one of other data or features.
    """
    try:
        found = msgspec.json.decode(document, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{REFERENCE} is not a training reference: {error}") from error
    if (version := found.format_version) != _FORMAT_VERSION:
        raise UsageError(f"{REFERENCE} has format version {version}; allowed: {_FORMAT_VERSION}")
    if found.training_data_sha256 != contract.training_data_sha256:
        raise UsageError(f"{REFERENCE} is of other training data than contract.json; allowed: the version's own")
    features = {feature.name: found.features.get(feature.name) for feature in contract.features}
    if wrong := [feature.name for feature in contract.features if not _fits(feature, features[feature.name])]:
        raise UsageError(f"{REFERENCE} does not fit the contract's {', '.join(wrong)}; allowed: the version's own")
    return TrainingReference(
        {feature.name: _counts(feature, features[feature.name]) for feature in contract.features},
        # Applications are float32: a value that is an edge must be one here, too.
        [np.array(of.edges, np.float32) for feature in contract.numeric
         if isinstance(of := features[feature.name], _Numeric)],
    )  # fmt: skip


def _fits(feature: Feature, of: _Numeric | _Categorical | None) -> bool:
    if isinstance(feature, CategoricalFeature):
        return isinstance(of, _Categorical) and of.counts.keys() == set(feature.categories)
    return (
        isinstance(of, _Numeric)
        and len(of.counts) == len(of.edges) + 1
        and all(low < high for low, high in pairwise(of.edges))
    )


def _counts(feature: Feature, of: _Numeric | _Categorical | None) -> tuple[float, ...]:
    if isinstance(of, _Categorical) and isinstance(feature, CategoricalFeature):
        return (*(of.counts[name] for name in feature.categories), of.missing, of.other)
    return (*of.counts, of.missing) if isinstance(of, _Numeric) else ()


def psi(counts: Sequence[float], reference: Sequence[float]) -> float | None:
    """Return the PSI of counts against those of training, as drift reports compute it; None without any.

    Each bin of each side gets half a row, or what it would have of both sides taken together if that is less, so that
    an empty bin is finite (docs/drift.md).
    """
    both = np.array([counts, reference], np.float64)
    sums = both.sum(axis=1, keepdims=True)
    if not sums.all():
        return None
    filled = both[:, both.sum(axis=0) > 0]
    filled = filled + np.minimum(_ADDED_ROWS, sums * filled.sum(axis=0) / sums.sum())
    ours, theirs = filled / filled.sum(axis=1, keepdims=True)
    return round(float(((ours - theirs) * np.log(ours / theirs)).sum()), 6)
