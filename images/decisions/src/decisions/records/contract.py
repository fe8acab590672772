"""What records need of a model version's contract.json: its features' names and categories, and its grades."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from decisions.errors import DamagedError
from decisions.segments.events import Shape


class NumericFeature(msgspec.Struct, frozen=True, tag_field="kind", tag="numeric"):
    """A number."""

    name: str


class CategoricalFeature(msgspec.Struct, frozen=True, tag_field="kind", tag="categorical"):
    """One of a list of categories; its code is the place in the list, then come missing and other."""

    name: str
    categories: tuple[str, ...]

    @property
    def values(self) -> list[str | dict[str, bool] | None]:
        """What each code means: a category, None for a missing one, or that it is another than those."""
        return [*self.categories, None, {"other": True}]


class Grade(msgspec.Struct, frozen=True):
    """A grade of the master scale, which ends where the next one begins."""

    name: str
    upper_probability: float


class ModelContract(msgspec.Struct, frozen=True):
    """The parts of a contract.json, of any format version, that records depend on."""

    features: Annotated[tuple[NumericFeature | CategoricalFeature, ...], msgspec.Meta(min_length=1)]
    grades: Sequence[Grade] = ()

    @property
    def shape(self) -> Shape:
        """How many features of each kind it has."""
        numeric = sum(isinstance(feature, NumericFeature) for feature in self.features)
        return Shape(numeric, len(self.features) - numeric)

    def grades_of(self, probabilities: npt.NDArray[np.float32]) -> list[str | None]:
        """Return the grade of each probability of default; None if the model has no master scale."""
        if not self.grades:
            return [None] * len(probabilities)
        names = [grade.name for grade in self.grades]
        # The worst grade has no end: it includes 1. In float64: an end is not rounded to float32.
        ends = [grade.upper_probability for grade in self.grades[:-1]]
        return [names[bisect_right(ends, probability)] for probability in probabilities.astype(np.float64).tolist()]


def read_contract(document: bytes) -> ModelContract:
    """Read a contract.json.

    Raises:
        DamagedError: It is not one.
    """
    try:
        return msgspec.json.decode(document, type=ModelContract)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"not a model contract: {error}") from error
