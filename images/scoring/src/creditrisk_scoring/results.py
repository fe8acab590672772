"""What a shard came to, and what all of them came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from creditrisk_scoring.distributions import psi
from creditrisk_scoring.scoring import PROBABILITY, PROBLEM, Version
from scorer.answers import RowProblem
from scorer.applications.tables import Rows

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
        features: Scored rows in each bin of `TrainingReference`, by the feature's name; none without a reference.
    """

    read: int
    scored: int
    rejected: int
    declined: int
    histogram: tuple[int, ...]
    rejected_by_field: dict[str, int]
    features: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)

    @property
    def excluded(self) -> int:
        """Rows for which the condition was not true."""
        return self.read - self.scored - self.rejected


class Tally:
    """Counts a shard's rows as they are scored."""

    def __init__(self, version: Version) -> None:
        """Take the version, whose contract has the edges of the score histogram."""
        self._contract, self._reference = version.contract, version.reference
        self._edges = np.array(self._contract.score_histogram.edges)
        self._features: dict[str, npt.NDArray[np.int64]] = {}
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

    def add_features(self, rows: Rows, valid: npt.NDArray[np.bool_]) -> None:
        """Count the values of the valid ones of encoded applications."""
        if self._reference is not None:
            for name, counts in self._reference.count(rows, valid, self._contract).items():
                self._features[name] = self._features.get(name, 0) + counts

    def add_rejected(self, results: pa.RecordBatch) -> None:
        """Count rejected rows."""
        self._rejected += results.num_rows
        for problem in results.column(PROBLEM).to_pylist():
            self._fields.update({error.field for error in _problem(problem).errors})

    def counts(self) -> Counts:
        """Return what was counted."""
        return Counts(
            self.read, self._scored, self._rejected, self._declined, tuple(self._histogram.tolist()),
            dict(sorted(self._fields.items())), {name: tuple(of.tolist()) for name, of in self._features.items()},
        )  # fmt: skip


def total_of(parts: Iterable[Counts], bins: int) -> Counts:
    """Return the counts of all shards together."""
    sums = dict.fromkeys(("read", "scored", "rejected", "declined"), 0)
    histogram: npt.NDArray[np.int64] = np.zeros(bins, np.int64)
    fields: Counter[str] = Counter()
    features: dict[str, npt.NDArray[np.int64]] = {}
    for part in parts:
        for name in sums:
            sums[name] += getattr(part, name)
        histogram += np.array(part.histogram, np.int64)
        fields.update(part.rejected_by_field)
        for name, bins_of in part.features.items():
            features[name] = features.get(name, 0) + np.array(bins_of, np.int64)
    return Counts(
        **sums, histogram=tuple(histogram.tolist()), rejected_by_field=dict(sorted(fields.items())),
        features={name: tuple(of.tolist()) for name, of in features.items()},
    )  # fmt: skip


def summary(
    counts: Counts, version: Version, shards: int, done: int, failed_files: Mapping[str, str]
) -> dict[str, Any]:
    """Return a run's summary, for programs.

    Args:
        counts: Of all shards that are done.
        version: Scored them.
        shards: How many the run has.
        done: How many of them are done.
        failed_files: The input's files that the others are of, with what is wrong with each.
    """
    reference = version.contract.score_histogram
    return {
        "complete": done == shards, "failed_files": [{"file": name, "problem": problem}
                                                     for name, problem in sorted(failed_files.items())],
        "rows": counts.read, "scored": counts.scored, "rejected": counts.rejected, "excluded": counts.excluded,
        "approved": counts.scored - counts.declined, "declined": counts.declined,
        "rejected_by_field": counts.rejected_by_field,
        "score_histogram": {"edges": reference.edges, "counts": counts.histogram, "reference": reference.counts},
        "psi": psi(counts.histogram, reference.counts),
        # Shards of a process that had no reference were not counted.
        "feature_psi": None if version.reference is None else {
            name: psi(found, version.reference.counts[name]) for name, found in counts.features.items()
            if sum(found) == counts.scored
        },
        "model": {"name": version.contract.model_name, "sha256": dict(version.digests)}, "shards": shards,
        "shards_done": done,
    }  # fmt: skip
