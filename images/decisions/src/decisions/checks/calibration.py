"""Whether more loans default than a version's PDs said, grade by grade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decisions.checks.bounds import highest_rate, lowest_rate
from decisions.checks.model import CheckAnswer

NAME = "default rate above the PD by"
UNIT = "loans"
# A grade with a smaller share of the loans may fail a version, but nobody waits until it is shown to be good.
_SHARE = 0.05


@dataclass(frozen=True)
class GradeCount:
    """Loans of one grade with an outcome; `pd` is the mean of their PDs, `undecided` how many more have none."""

    grade: str
    loans: int
    defaulted: int
    pd: float
    undecided: int = 0

    @property
    def excess(self) -> float:
        """Return the observed default rate less the mean PD."""
        return self.defaulted / self.loans - self.pd


@dataclass(frozen=True)
class _Bounded:
    grade: GradeCount
    lower: float
    upper: float


def calibration(grades: Sequence[GradeCount], among: int, limit: float, false_alarm: float, missed: float
                ) -> CheckAnswer:  # fmt: skip
    """Return by how much the default rate exceeds the mean PD in the grade that is worst.

    Each grade is a binomial test at all looks. Its chance of a false alarm is divided by the number of grades that the
    version has. A grade whose lower bound is above the limit is the answer; else the one that is farthest from being
    shown to be within it, among those with a twentieth of the loans.

    Args:
        grades: What was counted.
        among: How many grades the version has.
        limit: The excess that a grade may have.
        false_alarm: The chance that the lower bound of any grade is ever above its true excess.
        missed: The chance that the upper bound of a grade is ever below it.
    """
    chance = false_alarm / max(among, len(grades), 1)
    seen = [_bounded(grade, chance, missed) for grade in grades if grade.loans]
    loans, undecided = sum(found.grade.loans for found in seen), sum(grade.undecided for grade in grades)
    left = f"{undecided} approved and as old, but without an outcome" if undecided else ""
    if not seen:
        return CheckAnswer(name=NAME, value=None, unit=UNIT, message=left)
    worst = max(seen, key=lambda found: found.lower)
    if worst.lower <= limit:
        large = [found for found in seen if found.grade.loans >= _SHARE * loans]
        worst = max(large, key=lambda found: (found.grade.excess > limit, found.upper))
    grade = worst.grade
    expected = grade.pd * grade.loans
    message = f"grade {grade.grade}: {grade.defaulted} of {grade.loans} defaulted, {expected:.1f} expected"
    return CheckAnswer(
        name=NAME, value=grade.excess, lower=worst.lower, upper=worst.upper, samples=loans, unit=UNIT,
        message=f"{message}; {left}" if left else message,
    )  # fmt: skip


def _bounded(grade: GradeCount, chance: float, missed: float) -> _Bounded:
    return _Bounded(
        grade,
        lowest_rate(grade.loans, grade.defaulted, chance) - grade.pd,
        highest_rate(grade.loans, grade.defaulted, missed) - grade.pd,
    )
