"""What pairs tell: the same applicants under both models, in counters that only grow. contracts/metrics.json.

An operator that adds up the counters of all stable pods learns how decisions flip and in which direction, how scores
shift and in which quantiles, and whether that differs between groups; it learns nothing about a single applicant.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry

from scorer.answers import Decision
from scorer.metrics import SCORE_BUCKETS, SparseCounter

Change = Literal["both_approve", "both_decline", "approve_to_decline", "decline_to_approve"]
# busy: more pairs than could be compared; unlike_inputs: the champion cannot read what the canary has scored.
Cause = Literal["busy", "unlike_inputs", "error"]
# The champion's decision, then the canary's.
_CHANGES: dict[tuple[Decision, Decision], Change] = {
    ("approve", "approve"): "both_approve",
    ("decline", "decline"): "both_decline",
    ("approve", "decline"): "approve_to_decline",
    ("decline", "approve"): "decline_to_approve",
}
_EDGES = [*map(str, SCORE_BUCKETS), "+Inf"]


@dataclass(frozen=True, slots=True)
class Side:
    """What one model said of an applicant.

    Attributes:
        probability: The probability of default.
        decision: The decision, by the model's own threshold.
        reason: The code of the principal reason; None if there is none, or if none was asked for.
    """

    probability: float
    decision: Decision
    reason: str | None = None


class PairMetrics:
    """Counts pairs; only the event loop's thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Create all metrics, without any series."""

        def counter(name: str, about: str, *labels: str) -> SparseCounter:
            return SparseCounter(f"scorer_pair_{name}", about, labels, registry)

        self._decisions = counter(
            "decisions", "Applicants scored by both models, by the champion's decision and the canary's",
            "version", "change",
        )  # fmt: skip
        self._scores = counter(
            "scores", "The same, by the bins of both probabilities of default; labels are the bins' upper edges",
            "version", "champion", "canary",
        )  # fmt: skip
        self._rise = counter(
            "score_rise", "Sum of canary's less champion's probability of default where the canary's is larger",
            "version",
        )  # fmt: skip
        self._fall = counter("score_fall", "The same where it is smaller, as a positive number", "version")
        self._squares = counter("score_squares", "Sum of the squares of that difference", "version")
        self._segments = counter(
            "segments", "Decisions by groups of the protected features", "version", "feature", "value", "change"
        )
        self._reasons = counter(
            "reasons", "Whether both have the same principal reason, where reasons were asked for", "version", "change"
        )
        self._dropped = SparseCounter(
            "scorer_pairs_dropped", "Pairs that were not compared, by cause", ("cause",), registry
        )
        for cause in ("busy", "unlike_inputs", "error"):
            self.dropped(cause, 0)

    def compared(
        self, version: str, champion: Side, canary: Side, groups: Sequence[tuple[str, str]], *, explained: bool
    ) -> None:
        """Count a pair.

        Args:
            version: The canary's.
            champion: What the champion said.
            canary: What the canary said.
            groups: The protected features and the applicant's group in each.
            explained: Whether reasons were asked for.
        """
        change = _CHANGES[champion.decision, canary.decision]
        self._decisions.add(1, version, change)
        self._scores.add(1, version, _bin(champion.probability), _bin(canary.probability))
        difference = canary.probability - champion.probability
        self._rise.add(max(difference, 0.0), version)
        self._fall.add(max(-difference, 0.0), version)
        self._squares.add(difference * difference, version)
        for feature, value in groups:
            self._segments.add(1, version, feature, value, change)
        if explained:
            self._reasons.add(1, version, "same" if champion.reason == canary.reason else "different")

    def dropped(self, cause: Cause, pairs: int = 1) -> None:
        """Count pairs that are not compared."""
        self._dropped.add(pairs, cause)


def _bin(probability: float) -> str:
    """Return the upper edge of a probability's bin; a value on an edge belongs below it, as in `le`."""
    return _EDGES[bisect_left(SCORE_BUCKETS, probability)]
