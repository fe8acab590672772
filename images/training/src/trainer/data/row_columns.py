"""What the data says about a row beside its features: how many loans it stands for, and when its loan was made."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from trainer.data import columns
from trainer.data.declaration import FeatureDeclaration
from trainer.data.problems import Problem, in_rows


def with_row_columns(
    frame: pd.DataFrame, declaration: FeatureDeclaration, *, minimum_rows: int
) -> tuple[pd.DataFrame, list[Problem]]:
    """Return the table with weights as float64 whose mean is 1, and dates as datetime64; and what is wrong with them.

    Weights only count in relation to each other, so their scale is free: a share, or a number of loans.
    """
    read: dict[str, pd.Series] = {}
    problems: list[Problem] = []
    if (column := declaration.weight_column) and column in frame.columns:
        raw = frame[column]
        weight = columns.numbers(raw, None, decimal=declaration.file.decimal)
        found = list(_problems_of_weights(raw, pd.Series(weight, index=frame.index), minimum_rows))
        problems += found
        # Divided by the largest first: their sum may be more than a float holds.
        shares = weight / weight.max() if len(weight) and not found else np.ones(len(frame))
        read[column] = pd.Series(shares / shares.mean() if len(shares) else shares, index=frame.index)
    if (column := declaration.date_column) and column in frame.columns:
        read[column] = columns.dates(frame[column], declaration.date_format)
        problems += _problems_of_dates(frame[column], read[column], declaration.date_format)
    return frame.assign(**read), problems


def _problems_of_weights(raw: pd.Series, weight: pd.Series, minimum_rows: int) -> Iterator[Problem]:
    column, counted = str(raw.name), int((weight > 0).sum())
    missing = raw.isna() | (raw.astype(str).str.lower() == "nan")
    for message, rows in (
        ("missing weight; 0 leaves a row out", missing),
        ("not a number", weight.isna() & ~missing),
        ("an infinite weight", np.isinf(weight)),
        ("a negative weight", (weight < 0) & ~np.isinf(weight)),
    ):
        if rows.any():
            yield in_rows(column, message, raw[rows])
    if len(weight) and (weight == 0).all():
        yield Problem(column, "every weight is 0, so there is nothing to learn")
    elif counted < minimum_rows <= len(weight):
        yield Problem(column, f"{counted} rows with a weight above 0 are too few; at least {minimum_rows} are required")


def _problems_of_dates(raw: pd.Series, dates: pd.Series, form: str) -> Iterator[Problem]:
    missing = raw.isna()
    if missing.any():
        yield in_rows(str(raw.name), "missing date", raw[missing])
    if (wrong := dates.isna() & ~missing).any():
        hint = f'dates are read as {form or "ISO 8601"}; another format needs "date_format" beside "date_column"'
        yield in_rows(str(raw.name), "no date", raw[wrong], hint=hint)
