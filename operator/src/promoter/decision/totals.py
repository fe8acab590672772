"""What the stable pods counted, by what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Totals = Mapping[str, float]
# Counts that compare both models on the same applicant: they say the same at every weight, and are kept over all steps.
PAIR_PREFIX = "pair/"
# Counts of what the champion answered itself.
CHAMPION_PREFIX = "stable/"
# The change of a pair's decision from champion to canary: its direction, where 1 is one more decline.
CHANGES = {"both_approve": 0.0, "both_decline": 0.0, "approve_to_decline": 1.0, "decline_to_approve": -1.0}


@dataclass(frozen=True)
class Changes:
    """How the decisions of pairs changed."""

    counts: Mapping[str, float]

    @property
    def pairs(self) -> float:
        """Return the number of pairs."""
        return sum(self.counts.values())

    @property
    def shift(self) -> float:
        """Return the difference of the decline rates, canary less champion; 0 without pairs."""
        return sum(CHANGES[change] * count for change, count in self.counts.items()) / max(self.pairs, 1.0)

    @property
    def directions(self) -> dict[float, float]:
        """Return how often there was one decline more (1), one less (-1), and no change (0)."""
        found = {1.0: 0.0, -1.0: 0.0, 0.0: 0.0}
        for change, count in self.counts.items():
            found[CHANGES[change]] += count
        return found


@dataclass(frozen=True)
class StepTotals:
    """What was counted in one step, and of pairs in all steps so far."""

    totals: Totals

    def outcomes(self, arm: str) -> dict[str, float]:
        """Return the number of requests by outcome."""
        return self._under(f"{arm}/outcome/")

    @property
    def answers(self) -> float:
        """Return the number of requests that the canary answered well or not."""
        return sum(self.outcomes("canary").values())

    def buckets(self, arm: str, kind: str) -> list[tuple[float, float]]:
        """Return (upper bound, cumulative count) in increasing order."""
        return sorted((float(bound), count) for bound, count in self._under(f"{arm}/{kind}/").items())

    def declines(self, arm: str) -> tuple[float, float]:
        """Return the number of declines and the number of decisions."""
        decisions = self._under(f"{arm}/decision/")
        return decisions.get("decline", 0.0), sum(decisions.values())

    @cached_property
    def changes(self) -> Changes:
        """Return how decisions changed in pairs."""
        return Changes(self._under("pair/decision/"))

    @property
    def paired(self) -> bool:
        """Return whether pairs say more than the two arms.

        They do unless there are far fewer of them: they are off, or the champion cannot read the canary's inputs.
        """
        return self.changes.pairs > 0 and 10 * self.changes.pairs >= self.declines("canary")[1]

    @cached_property
    def segments(self) -> dict[str, Changes]:
        """Return how decisions changed by segment, named `<feature>/<value>`."""
        found: dict[str, dict[str, float]] = {}
        for key, count in self._under("pair/segment/").items():
            name, _, change = key.rpartition("/")
            found.setdefault(name, {})[change] = count
        return {name: Changes(counts) for name, counts in sorted(found.items())}

    @cached_property
    def scores(self) -> dict[tuple[float, float], float]:
        """Return the number of pairs by the upper edges of the champion's and of the canary's bin."""
        found = {}
        for key, count in self._under("pair/score/").items():
            champion, _, canary = key.partition("/")
            found[float(champion), float(canary)] = count
        return found

    @property
    def reasons(self) -> tuple[float, float]:
        """Return the number of pairs with different principal reasons, and of pairs that asked for reasons."""
        reasons = self._under("pair/reason/")
        return reasons.get("different", 0.0), sum(reasons.values())

    @property
    def mean_score_change(self) -> float:
        """Return the mean PD of the canary less that of the champion, over all pairs; 0 without pairs."""
        total = sum(self.scores.values())
        return (self.totals.get("pair/rise", 0.0) - self.totals.get("pair/fall", 0.0)) / max(total, 1.0)

    @property
    def mean_squared_score_change(self) -> float:
        """Return the mean of the squared changes of the PD, over all pairs; 0 without pairs."""
        return self.totals.get("pair/squares", 0.0) / max(sum(self.scores.values()), 1.0)

    def _under(self, prefix: str) -> dict[str, float]:
        return {key.removeprefix(prefix): value for key, value in self.totals.items() if key.startswith(prefix)}


def count_of(buckets: Sequence[tuple[float, float]]) -> float:
    """Return the number of observations in cumulative buckets."""
    return buckets[-1][1] if buckets else 0.0


def quantile(buckets: Sequence[tuple[float, float]], q: float) -> float:
    """Return a quantile of cumulative buckets, interpolated as PromQL's histogram_quantile does; NaN when empty."""
    total = count_of(buckets)
    if not total:
        return math.nan
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in buckets:
        if count >= q * total:
            if math.isinf(bound):
                return lower_bound
            return lower_bound + (bound - lower_bound) * (q * total - lower_count) / max(count - lower_count, 1e-12)
        lower_bound, lower_count = bound, count
    return lower_bound


def count_above(buckets: Sequence[tuple[float, float]], threshold: float) -> float:
    """Return the number of observations in buckets that lie entirely above a threshold."""
    total = count_of(buckets)
    return total - next((count for bound, count in buckets if bound >= threshold), total)


def histogram(buckets: Sequence[tuple[float, float]]) -> list[float]:
    """Return the number of observations in each of cumulative buckets."""
    counts, before = [], 0.0
    for _, count in buckets:
        counts.append(count - before)
        before = count
    return counts
