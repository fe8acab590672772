"""Types of the model's input rows, and of the columns that requests hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

# Numeric features, [N, numeric features], in the contract's order and units.
FloatRows = npt.NDArray[np.float32]
# Categories as indices into each feature's list, [N, categorical features].
CodeRows = npt.NDArray[np.int64]
# One value per row, as a request holds them.
Column = Sequence[Any] | npt.NDArray[Any]

MAX_ROWS = 10_000


@dataclass(frozen=True)
class Repeated(Sequence[Any]):
    """A column of few values that repeat: each is read once, however many rows have it.

    Attributes:
        values: The distinct values.
        places: The place of each row's value in them, [N].
    """

    values: Sequence[Any]
    places: npt.NDArray[np.integer[Any]]

    def __len__(self) -> int:
        """Return N."""
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> Any: ...  # noqa: ANN401 - any JSON value
    @overload
    def __getitem__(self, row: slice) -> Sequence[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        """Return the value of a row, or those of several."""
        if isinstance(row, slice):
            return Repeated(self.values, self.places[row])
        return self.values[self.places[row]]
