"""Columns of raw data as numbers and dates; each distinct text is read once."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data import cells
from trainer.data.declaration import Parse


def distinct(raw: pd.Series) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return a column's distinct texts, and for each row the position of its text; -1 for missing."""
    categorical = raw.array if isinstance(raw.array, pd.Categorical) else pd.Categorical(raw)
    return [str(text) for text in categorical.categories], np.asarray(categorical.codes, dtype=np.int64)


def numbers(raw: pd.Series, parse: Parse | None, *, decimal: str) -> npt.NDArray[np.float64]:
    """Return the numbers that a column holds, float64 [N]; NaN for a missing value and for any that is no number."""
    if pd.api.types.is_numeric_dtype(raw) and not isinstance(raw.dtype, pd.CategoricalDtype):
        return raw.to_numpy(dtype=np.float64, na_value=np.nan)
    texts, codes = distinct(raw)
    return np.append(cells.numbers(texts, parse, decimal=decimal), np.nan)[codes]


def dates(raw: pd.Series, form: str) -> pd.Series:
    """Return the dates that a column holds, NaT for a missing value and for any that is no date.

    Args:
        raw: The column, [N].
        form: strptime's format of its texts; "" for ISO 8601.
    """
    if pd.api.types.is_datetime64_any_dtype(raw):
        return pd.Series(raw.dt.tz_localize(None))
    texts, codes = distinct(raw)
    known = cells.dates([*texts, ""], form)
    return pd.Series(known.array[codes], index=raw.index)
