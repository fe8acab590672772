"""Grades of the master scale: their expected default rates, and how well those hold on the test rows.

Without a declared scale, bands of the probability take its place where calibration is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trainer.data.master_scale import DeclaredGrade
from trainer.evaluation.default_rates import Rate, outcomes
from trainer.export.contract import Grade

Vector = npt.NDArray[np.float64]

_ENDS_OF_BANDS = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# About as wide as the grades of common scales: narrow where a portfolio is good, so that an average over all loans
# cannot hide that the best ones default more often than they should.
PROBABILITY_BANDS = tuple(DeclaredGrade(name=f"below {end:g}", upper_probability=end) for end in _ENDS_OF_BANDS)


class Verdict(StrEnum):
    """How a grade's expected default rate compares with the interval of the observed one."""

    HOLDS = "holds"
    TOO_LOW = "too low"
    TOO_HIGH = "too high"
    UNKNOWN = "no test rows"


@dataclass(frozen=True)
class GradeResult:
    """One grade on the test rows.

    Attributes:
        name: The grade.
        lower_probability: The lowest probability of default in it.
        upper_probability: Where the next grade begins.
        expected: The default rate that the model contract states, at the default rate of the data.
        observed: What was observed.
    """

    name: str
    lower_probability: float
    upper_probability: float
    expected: float
    observed: Rate

    @property
    def verdict(self) -> Verdict:
        """Whether the expected default rate is within the interval of the observed one.

        Each end of the 95 % Jeffreys interval is a one-sided test at 2.5 %. That of the lower end, whether the expected
        rate is too low, is the test of the calibration of grades in the ECB's "Instructions for reporting the
        validation results of internal models" (February 2019).
        """
        low, high = self.observed.interval
        if not self.observed.rows:
            return Verdict.UNKNOWN
        if self.expected < low:
            return Verdict.TOO_LOW
        return Verdict.TOO_HIGH if self.expected > high else Verdict.HOLDS


def build_grades(
    declared: Sequence[DeclaredGrade], probability: Vector, weight: Vector | None = None
) -> tuple[Grade, ...]:
    """Return the grades with their expected default rates: the mean probability of default of the loans in each.

    Of a grade without loans it is the middle of its range. So expected default rates rise from grade to grade.

    Args:
        declared: The grades, from the best to the worst.
        probability: Calibrated out-of-fold probabilities of default, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    rates = expected_default_rates(declared, probability, probability, weight)
    return tuple(
        Grade(name=grade.name, upper_probability=grade.upper_probability, expected_default_rate=rate)
        for grade, rate in zip(declared, rates, strict=True)
    )


def expected_default_rates(
    grades: Sequence[DeclaredGrade | Grade], probability: Vector, expected: Vector, weight: Vector | None = None
) -> tuple[float, ...]:
    """Return the mean of what is expected of the loans in each grade, or the middle of its range without any.

    Args:
        grades: From the best to the worst.
        probability: The probabilities of default by which loans are graded, [N].
        expected: The probabilities to average: the same, or those before a shift to another default rate, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    index = _grade_index(grades, probability)
    counted = np.ones(len(index)) if weight is None else weight
    loans = np.bincount(index, counted, minlength=len(grades))
    total = np.bincount(index, counted * expected, minlength=len(grades))
    return tuple(
        float(total[i] / loans[i]) if loans[i] else (low + high) / 2 for i, (low, high) in enumerate(_ranges(grades))
    )


def assess_grades(
    grades: Sequence[DeclaredGrade | Grade],
    expected: Sequence[float],
    target: Vector,
    probability: Vector,
    weight: Vector | None = None,
) -> tuple[GradeResult, ...]:
    """Compare each grade's expected default rate with the observed one.

    Args:
        grades: The model contract's, or bands, from the best to the worst.
        expected: The default rate to expect in each, at the default rate of the data.
        target: 1 for default, 0 for repaid, [N].
        probability: The model's probabilities of default, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    index = _grade_index(grades, probability)
    return tuple(
        GradeResult(grade.name, low, high, rate, outcomes(target, index == i, weight))
        for i, (grade, (low, high), rate) in enumerate(zip(grades, _ranges(grades), expected, strict=True))
    )


def _ranges(grades: Sequence[DeclaredGrade | Grade]) -> list[tuple[float, float]]:
    return list(pairwise([0.0, *(grade.upper_probability for grade in grades)]))


def _grade_index(grades: Sequence[DeclaredGrade | Grade], probability: Vector) -> npt.NDArray[np.int64]:
    """Return each row's grade, [N]: the first one whose end is above the probability."""
    ends = [grade.upper_probability for grade in grades[:-1]]
    return np.searchsorted(ends, probability, side="right").astype(np.int64)
