"""Whether the default rate of each grade is what its probabilities of default say.

The Jeffreys test is the one of the ECB's instructions for reporting the validation results of internal models (2019,
section 2.5.3.1), one-sided: how probable is it, after these defaults, that the true rate is no higher than assessed?
The traffic light follows the OeNB's and FMA's guideline "Rating Models and Validation" (2004): yellow where the test's
level is 5 %, red where it is 1 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from decisions.drift.incomplete_beta import beta_cdf

Light = Literal["green", "yellow", "red"]
_YELLOW, _RED = 0.05, 0.01


@dataclass(frozen=True)
class GradeCalibration:
    """A grade's default rate against its probabilities of default.

    Attributes:
        grade: Its name.
        loans: How many have an outcome.
        defaults: How many of them defaulted.
        assessed: Their mean probability of default.
        realized: Their default rate.
        p_value: Of the Jeffreys test: low where the assessed rate is too low.
        light: green, yellow or red.
        too_cautious: Whether the opposite test is significant at 1 %: far fewer defaults than assessed.
    """

    grade: str
    loans: int
    defaults: int
    assessed: float
    realized: float
    p_value: float
    light: Light
    too_cautious: bool


def calibrate(grade: str, loans: int, defaults: int, assessed: float) -> GradeCalibration:
    """Return the test of a grade.

    Args:
        grade: Its name.
        loans: More than 0.
        defaults: At most as many.
        assessed: The mean probability of default, 0 to 1.
    """
    p_value = beta_cdf(assessed, defaults + 0.5, loans - defaults + 0.5)
    light: Light = "red" if p_value < _RED else "yellow" if p_value < _YELLOW else "green"
    return GradeCalibration(
        grade, loans, defaults, assessed, defaults / loans, p_value, light, too_cautious=1 - p_value < _RED
    )
