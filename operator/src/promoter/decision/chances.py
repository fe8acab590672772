"""How the two chances of a spec are divided among what is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from promoter.api.spec import EQUIVALENCE, UNBOUNDED, Spec

# The share of a metric's chance that is left for the comparison of the arms, where pairs are too few.
_FALLBACK_SHARE = 0.2
# A step that is left with a larger margin needs no more samples than this.
_EARLY_SAMPLES = 50
# Segments are numbered among at most this many, or twice, four times ... as many; each count has half the chance left.
_SEGMENTS = 16


@dataclass(frozen=True)
class Chances:
    """What one metric may fail and pass by.

    Pairs are counted over the whole rollout, all else by step, so that the chance of a false verdict on it is divided
    by the number of steps. To pass, all metrics must be Successful in the last step: `missed` needs no division.
    """

    by_pairs: float
    by_step: float
    fallback: float
    missed: float
    margin: float
    min_samples: int

    @classmethod
    def of(cls, spec: Spec, steps: int, margin: float = EQUIVALENCE) -> Self:
        """Divide the chances of a spec by its counted metrics (a Query or SQL has no bounds) and a number of steps."""
        analysis = spec.analysis
        metric = analysis.false_rollback / max(1, sum(entry.type not in UNBOUNDED for entry in spec.metrics))
        early = margin > EQUIVALENCE
        return cls(
            by_pairs=metric * (1 - _FALLBACK_SHARE),
            by_step=metric / steps,
            fallback=metric * _FALLBACK_SHARE / steps,
            missed=analysis.missed_regression,
            margin=margin,
            min_samples=min(analysis.min_samples, _EARLY_SAMPLES) if early else analysis.min_samples,
        )

    def by_segment(self, segments: int) -> float:
        """Return the chance of each segment, among those seen so far; all chances together are at most `by_pairs`.

        As values appear there are more segments, which must not make up for what was spent on fewer.
        """
        chance, room = self.by_pairs / 2, _SEGMENTS
        while segments > room:
            chance, room = chance / 2, room * 2
        return chance / room
