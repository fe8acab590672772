"""Grades of the master scale: their expected default rates, and how well those hold on the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from trainer.data.master_scale import DeclaredGrade
from trainer.evaluation.default_rates import Rate
from trainer.export.contract import Grade

Vector = npt.NDArray[np.float64]


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
        expected: The default rate that the model contract states.
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


def build_grades(declared: Sequence[DeclaredGrade], probability: Vector) -> tuple[Grade, ...]:
    """Return the grades with their expected default rates: the mean probability of default of the rows in each.

    Of a grade without rows it is the middle of its range. So expected default rates rise from grade to grade.

    Args:
        declared: The grades, from the best to the worst.
        probability: Calibrated out-of-fold probabilities of default, [N].
    """
    index = _grade_index([grade.upper_probability for grade in declared], probability)
    rows = np.bincount(index, minlength=len(declared))
    total = np.bincount(index, probability, minlength=len(declared))
    lower = (0.0, *(grade.upper_probability for grade in declared))
    return tuple(
        Grade(
            name=grade.name,
            upper_probability=grade.upper_probability,
            expected_default_rate=float(
                total[i] / rows[i] if rows[i] else (lower[i] + grade.upper_probability) / 2,
            ),
        )
        for i, grade in enumerate(declared)
    )


def assess_grades(grades: Sequence[Grade], target: Vector, probability: Vector) -> tuple[GradeResult, ...]:
    """Compare each grade's expected default rate with the observed one.

    Args:
        grades: The model contract's, from the best to the worst.
        target: 1 for default, 0 for repaid, [N].
        probability: The model's probabilities of default, [N].
    """
    index = _grade_index([grade.upper_probability for grade in grades], probability)
    rows = np.bincount(index, minlength=len(grades))
    defaults = np.bincount(index, target, minlength=len(grades))
    lower = (0.0, *(grade.upper_probability for grade in grades))
    return tuple(
        GradeResult(
            grade.name,
            lower[i],
            grade.upper_probability,
            grade.expected_default_rate,
            Rate(int(rows[i]), int(defaults[i])),
        )
        for i, grade in enumerate(grades)
    )


def _grade_index(ends: Sequence[float], probability: Vector) -> npt.NDArray[np.int64]:
    """Return each row's grade, [N]: the first one whose end is above the probability."""
    return np.searchsorted(ends[:-1], probability, side="right").astype(np.int64)
