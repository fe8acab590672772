"""Probabilities of default as score points, scaled as credit scorecards are, and as grades of a master scale."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scorer.contract import Grade

# The network answers in float32: closer to 0 or 1 than this, its answer carries no information.
_NEAREST = 1e-7


def log_odds(probability: float) -> float:
    """Return ln(p / (1 - p)) of a probability, clipped to what float32 can tell from certainty."""
    if not _NEAREST < probability < 1 - _NEAREST:
        probability = min(max(probability, _NEAREST), 1 - _NEAREST)
    return math.log(probability / (1 - probability))


def log_odds_of(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return `log_odds` of each probability, float64 [N]."""
    clipped = probabilities.astype(np.float64).clip(_NEAREST, 1 - _NEAREST)
    return np.asarray(np.log(clipped / (1 - clipped)))


@dataclass(frozen=True)
class Scorecard:
    """Points that fall as the odds of default rise (Siddiqi, Credit Risk Scorecards, 2006, chapter 6).

    Attributes:
        base_points: The points of an applicant whose odds of repaying are `base_odds` to 1.
        base_odds: Those odds.
        points_to_double: How many more points double the odds of repaying.
    """

    base_points: float
    base_odds: float
    points_to_double: float

    @cached_property
    def points_per_log_odds(self) -> float:
        """Points by which one unit of log-odds of default lowers the score."""
        return self.points_to_double / math.log(2)

    @cached_property
    def points_at_even_odds(self) -> float:
        """Points of an applicant who is as likely to default as to repay."""
        return self.base_points - self.points_per_log_odds * math.log(self.base_odds)

    def points(self, probability: float) -> int:
        """Return the score points of a probability of default, to the nearest point."""
        return round(self.points_at_even_odds - self.points_per_log_odds * log_odds(probability))

    def points_of(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Return `points` of each probability, int32 [N]."""
        points = self.points_at_even_odds - self.points_per_log_odds * log_odds_of(probabilities)
        return np.rint(points).astype(np.int32)


class MasterScale:
    """Grades as ranges of the probability of default: each from the better one's end up to, not including, its own."""

    def __init__(self, grades: Sequence[Grade]) -> None:
        """Take the contract's grades, from the best to the worst."""
        self._names = [grade.name for grade in grades]
        # The worst grade has no end: it includes 1.
        self._ends = [grade.upper_probability for grade in grades[:-1]]

    def grade(self, probability: float) -> str:
        """Return the grade of a probability of default."""
        return self._names[bisect_right(self._ends, probability)]

    def grades_of(self, probabilities: npt.NDArray[np.float32]) -> list[str]:
        """Return `grade` of each probability."""
        names = self._names
        # In float64, as for one: an end is not rounded to float32.
        found = np.searchsorted(self._ends, probabilities.astype(np.float64), side="right")
        return [names[index] for index in found.tolist()]
