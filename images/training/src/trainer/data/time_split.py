"""The split by time: the newest rows are the test rows."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

# How far the share of test rows may be from the one asked for, as a factor.
_TOLERANCE = 2.0


class Split(StrEnum):
    """How the test rows are chosen."""

    SHUFFLED = "shuffled"
    TIME = "time"


@dataclass(frozen=True)
class Period:
    """The dates of some rows, the first and the last included."""

    first: pd.Timestamp
    last: pd.Timestamp

    @classmethod
    def of(cls, dates: pd.Series) -> Self:
        """Return the period that dates, at least one of them, span."""
        return cls(dates.min(), dates.max())

    def __str__(self) -> str:
        return f"{_text(self.first)} to {_text(self.last)}"


def newest(dates: pd.Series, *, share: float) -> npt.NDArray[np.bool_]:
    """Choose the newest rows as test rows; rows of the same date are never divided.

    A model is then tested on loans that are younger than all it learned from, as in production: out of time.

    Args:
        dates: Each row's date, none of them missing, [N].
        share: The share of test rows, to which the nearest possible one is chosen.

    Returns:
        bool [N], true for test rows.

    Raises:
        ValueError: There are too few dates: a single one, or none at which the share of newer rows is between half
            the one asked for and twice that.
    """
    days, counts = np.unique(dates.to_numpy(), return_counts=True)
    if len(days) < 2:
        raise ValueError(f"all rows have the date {_text(dates.iloc[0])}; a split by time needs at least two dates")
    # Of the rows from each date on, except the oldest, which would leave nothing to train on.
    shares = counts[::-1].cumsum()[::-1][1:] / len(dates)
    nearest = int(np.abs(shares - share).argmin())
    first, found = pd.Timestamp(days[1:][nearest]), float(shares[nearest])
    if not share / _TOLERANCE <= found <= share * _TOLERANCE:
        raise ValueError(
            f"{len(days)} dates are too few for a test share of {share:g}, as rows of the same date stay together: the "
            f"nearest share is that of the rows from {_text(first)} on, {found:.1%}; --test-share={found:.3g} takes it"
        )
    return np.asarray(dates >= first, dtype=bool)


def _text(moment: pd.Timestamp) -> str:
    return str(moment).removesuffix(" 00:00:00")
