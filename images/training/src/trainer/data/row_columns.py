"""What the data says about a row beside its features: how many loans it stands for, and when its loan was made."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trainer.data import columns
from trainer.data.declaration import FeatureDeclaration
from trainer.data.findings import Findings
from trainer.data.problems import Problem


@dataclass
class RowColumns:
    """Reads the weights and dates of a table part by part, and gathers what is wrong with them."""

    declaration: FeatureDeclaration
    _weights: Findings = field(default_factory=Findings)
    _dates: Findings = field(default_factory=Findings)
    _rows: int = 0
    _above_zero: int = 0
    _all_zero: bool = True

    def read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the next part with weights as float64, as they are, and dates as datetime64."""
        read: dict[str, pd.Series] = {}
        if (column := self.declaration.weight_column) and column in frame.columns:
            weight = columns.numbers(frame[column], None, decimal=self.declaration.file.decimal)
            read[column] = pd.Series(weight, index=frame.index)
            self._check_weights(frame[column], read[column])
        if (column := self.declaration.date_column) and column in frame.columns:
            read[column] = columns.dates(frame[column], self.declaration.date_format)
            missing = frame[column].isna()
            self._dates.add(column, "missing date", frame[column][missing])
            self._dates.add(column, "no date", frame[column][read[column].isna() & ~missing])
        return frame.assign(**read)

    def _check_weights(self, raw: pd.Series, weight: pd.Series) -> None:
        self._rows += len(weight)
        self._above_zero += int((weight > 0).sum())
        self._all_zero &= bool((weight == 0).all())
        missing = raw.isna() | (raw.astype(str).str.lower() == "nan")
        for message, rows in (
            ("missing weight; 0 leaves a row out", missing),
            ("not a number", weight.isna() & ~missing),
            ("an infinite weight", np.isinf(weight)),
            ("a negative weight", (weight < 0) & ~np.isinf(weight)),
        ):
            self._weights.add(str(raw.name), message, raw[rows])

    def problems(self, *, minimum_rows: int) -> list[Problem]:
        """Describe what is wrong with them."""
        weights, dates = self.declaration.weight_column or "", self.declaration.date_column or ""
        form = self.declaration.date_format or "ISO 8601"
        hint = f'dates are read as {form}; another format needs "date_format" beside "date_column"'
        found = self._weights.problems([weights])
        if self._rows and self._all_zero:
            found.append(Problem(weights, "every weight is 0, so there is nothing to learn"))
        elif self._above_zero < minimum_rows <= self._rows:
            counted = f"{self._above_zero} rows with a weight above 0 are too few; at least {minimum_rows} are required"
            found.append(Problem(weights, counted))
        said = {"no date": hint}
        return found + self._dates.problems([dates], lambda _column, message, _texts: said.get(message, ""))


def with_mean_weight_1(frame: pd.DataFrame, declaration: FeatureDeclaration) -> pd.DataFrame:
    """Return a valid table whose weights have a mean of 1.

    Weights only count in relation to each other, so their scale is free: a share, or a number of loans.
    """
    if not (column := declaration.weight_column) or not len(frame):
        return frame
    # Divided by the largest first: their sum may be more than a float holds.
    shares = frame[column] / frame[column].max()
    return frame.assign(**{column: shares / shares.mean()})
