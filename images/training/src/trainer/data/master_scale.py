"""The declared master scale: grades as ranges of the probability of default."""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from trainer.data.fields import Label, Strict


class DeclaredGrade(Strict):
    """A grade: the probabilities of default from the end of the better grade up to, but not including, its own end.

    Attributes:
        name: What answers call it.
        upper_probability: Its end, where the next grade begins; 1 for the worst grade.
    """

    name: Label
    upper_probability: float = Field(gt=0, le=1)


def check_grades(grades: Sequence[DeclaredGrade]) -> None:
    """Require grades that divide all probabilities, each with a name of its own; none are fine.

    Raises:
        ValueError: The message says what is wrong and what is allowed.
    """
    names = [grade.name for grade in grades]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"more than one grade is named {', '.join(repeated)}; names must be unique")
    if unprintable := [name for name in names if not name.isprintable()]:
        raise ValueError(f"{', '.join(map(repr, unprintable))}: a name must not contain control characters")
    for better, worse in pairwise(grades):
        if worse.upper_probability <= better.upper_probability:
            raise ValueError(
                f"{worse.name}: upper_probability {worse.upper_probability:g} is not above the {better.name}'s "
                f"{better.upper_probability:g}; list grades from the best to the worst"
            )
    if grades and grades[-1].upper_probability < 1:
        raise ValueError(
            f"{grades[-1].name}: upper_probability of the last grade must be 1, not {grades[-1].upper_probability:g}: "
            "every application gets a grade"
        )
