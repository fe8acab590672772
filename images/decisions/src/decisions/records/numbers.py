"""Numbers as records write them: the shortest decimal that is the same float32."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def shortest(values: npt.NDArray[np.float32]) -> list[float]:
    """Return, for each float32, the float whose decimal is the shortest that is the same float32.

    A float32 of 0.1 is 0.10000000149011612 as a Python float, and 0.1 here.
    """
    decimals: list[float] = values.astype("U").astype(np.float64).tolist()
    return decimals


def shortest_or_missing(values: npt.NDArray[np.float32]) -> list[float | None]:
    """Return `shortest` of each value, and None for NaN."""
    decimals = shortest(values)
    if not np.isnan(values).any():
        return list(decimals)
    return [None if math.isnan(value) else value for value in decimals]


def shortest_of(value: float) -> float:
    """Return `shortest` of one number, which is first rounded to float32."""
    return float(str(np.float32(value)))
