"""What the columns of the network's two inputs may hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CategoryInput:
    """One column of the input `categorical`.

    Attributes:
        count: Number of categories; their codes are 0 to count - 1.
        ordered: Whether the order of the categories carries information.
        missing: Whether the code `count`, for a missing value, may occur.
        other: Whether the code `count + 1`, for any category outside the list, may occur.
        direction: 1 if the probability of default never falls as the code of a category rises, -1 if it never rises,
            0 if it may do either.
    """

    count: int
    ordered: bool = False
    missing: bool = False
    other: bool = False
    direction: int = 0

    @property
    def missing_code(self) -> int:
        """The code of a missing value."""
        return self.count

    @property
    def other_code(self) -> int:
        """The code of a category outside the list."""
        return self.count + 1

    @property
    def codes(self) -> tuple[int, ...]:
        """All codes that may occur."""
        more = ((self.missing_code, self.missing), (self.other_code, self.other))
        return (*range(self.count), *(code for code, allowed in more if allowed))


@dataclass(frozen=True)
class Inputs:
    """The columns of both inputs, in the order of the features.

    Attributes:
        missing: Whether each column of the input `numeric` may be missing (NaN).
        categories: The columns of the input `categorical`.
        directions: 1 where the probability of default never falls as a number rises, -1 where it never rises, 0 where
            it may do either; empty if it may for all numbers.
    """

    missing: tuple[bool, ...]
    categories: tuple[CategoryInput, ...]
    directions: tuple[int, ...] = ()
