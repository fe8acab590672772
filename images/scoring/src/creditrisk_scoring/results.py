"""What a shard came to, and what all of them came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from creditrisk_scoring.scoring import PROBABILITY, PROBLEM, Version
from scorer.answers import RowProblem
from scorer.contract import Contract

_ADDED_ROWS = 0.5
_problem = msgspec.json.Decoder(RowProblem).decode


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many rows became what.

    Attributes:
        read: Rows of the input.
        scored: Rows with a probability of default.
        rejected: Invalid rows.
        declined: Scored rows above the decision threshold.
        histogram: Scored rows between the edges of the contract's score histogram.
        rejected_by_field: How many rows each field was a reason to reject.
    """

    read: int
    scored: int
    rejected: int
    declined: int
    histogram: tuple[int, ...]
    rejected_by_field: dict[str, int]

    @property
    def excluded(self) -> int:
        """Rows for which the condition was not true."""
        return self.read - self.scored - self.rejected


class Tally:
    """Counts a shard's rows as they are scored."""

    def __init__(self, contract: Contract) -> None:
        """Take the contract, whose score histogram has the edges."""
        self._edges = np.array(contract.score_histogram.edges)
        self._histogram: npt.NDArray[np.int64] = np.zeros(len(self._edges) - 1, np.int64)
        self._fields: Counter[str] = Counter()
        self.read = self._scored = self._rejected = self._declined = 0

    def add_scored(self, results: pa.RecordBatch) -> None:
        """Count scored rows."""
        self._scored += results.num_rows
        self._declined += pc.sum(pc.equal(results.column("decision"), "decline")).as_py() or 0
        # The network answers in float32, which may exceed the last edge by rounding alone.
        scores = results.column(PROBABILITY).to_numpy().astype(np.float64).clip(self._edges[0], self._edges[-1])
        self._histogram += np.histogram(scores, self._edges)[0]

    def add_rejected(self, results: pa.RecordBatch) -> None:
        """Count rejected rows."""
        self._rejected += results.num_rows
        for problem in results.column(PROBLEM).to_pylist():
            self._fields.update({error.field for error in _problem(problem).errors})

    def counts(self) -> Counts:
        """Return what was counted."""
        return Counts(
            self.read, self._scored, self._rejected, self._declined, tuple(self._histogram.tolist()),
            dict(sorted(self._fields.items())),
        )  # fmt: skip


def total_of(parts: Iterable[Counts], bins: int) -> Counts:
    """Return the counts of all shards together."""
    sums = dict.fromkeys(("read", "scored", "rejected", "declined"), 0)
    histogram: npt.NDArray[np.int64] = np.zeros(bins, np.int64)
    fields: Counter[str] = Counter()
    for part in parts:
        for name in sums:
            sums[name] += getattr(part, name)
        histogram += np.array(part.histogram, np.int64)
        fields.update(part.rejected_by_field)
    return Counts(**sums, histogram=tuple(histogram.tolist()), rejected_by_field=dict(sorted(fields.items())))


def summary(counts: Counts, version: Version, shards: int) -> dict[str, Any]:
    """Return a run's summary, for programs."""
    reference = version.contract.score_histogram
    return {
        "rows": counts.read, "scored": counts.scored, "rejected": counts.rejected, "excluded": counts.excluded,
        "approved": counts.scored - counts.declined, "declined": counts.declined,
        "rejected_by_field": counts.rejected_by_field,
        "score_histogram": {"edges": reference.edges, "counts": counts.histogram, "reference": reference.counts},
        "psi": score_psi(counts.histogram, reference.counts),
        "model": {"name": version.contract.model_name, "sha256": dict(version.digests)}, "shards": shards,
    }  # fmt: skip


def score_psi(counts: Sequence[int], reference: Sequence[int]) -> float | None:
    """Return the PSI of scores against the training data's, as drift reports compute it; None without scores.

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
