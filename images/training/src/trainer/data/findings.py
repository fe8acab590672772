"""Invalid cells, gathered while the data is read part by part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.problems import ROWS_SHOWN, Problem, problem_of

# Distinct texts that are looked at for what would mend them.
_TEXTS_LOOKED_AT = 1_000


@dataclass
class Cells:
    """Invalid cells of one kind in one column.

    Attributes:
        count: How many there are.
        rows: The first of them, ascending, counted from 0.
        texts: The first distinct values that are present, each with its first row.
    """

    count: int = 0
    rows: list[int] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)

    def add(self, values: pd.Series) -> None:
        """Add invalid cells of the next part; the index of `values` holds zero-based row positions."""
        ordered = values.sort_index()
        present = ordered.dropna()
        first = present[~present.duplicated()]
        self.merge(
            Cells(
                len(ordered),
                [int(row) for row in ordered.index[:ROWS_SHOWN]],
                dict(
                    zip(map(str, first.iloc[:_TEXTS_LOOKED_AT]), first.index[:_TEXTS_LOOKED_AT].tolist(), strict=True)
                ),
            )
        )

    def merge(self, other: "Cells") -> None:
        """Add all of the other cells, wherever they are."""
        self.count += other.count
        self.rows = sorted([*self.rows, *other.rows])[:ROWS_SHOWN]
        found = sorted({**other.texts, **self.texts}.items(), key=lambda text: text[1])
        self.texts = dict(found[:_TEXTS_LOOKED_AT])

    def problem(self, column: str | None, message: str, hint: str = "") -> Problem:
        """Describe them."""
        return problem_of(column, message, self.count, self.rows, list(self.texts), hint=hint)


@dataclass
class Findings:
    """Invalid cells of all kinds, by column and message."""

    cells: dict[tuple[str, str], Cells] = field(default_factory=dict)

    def add(self, column: str, message: str, values: pd.Series) -> None:
        """Add invalid cells of the next part, if there are any."""
        if len(values):
            self.cells.setdefault((column, message), Cells()).add(values)

    def problems(
        self, columns: Sequence[str], hint: Callable[[str, str, list[str]], str] = lambda *_: ""
    ) -> list[Problem]:
        """Describe what was found, in the order of the columns, and of the first rows in a column.

        Args:
            columns: All columns that may have findings.
            hint: Returns what would mend a column's cells, given its name, the message and the distinct values.
        """
        place = {column: index for index, column in enumerate(columns)}
        found = sorted(self.cells.items(), key=lambda item: (place[item[0][0]], item[1].rows))
        return [cells.problem(column, text, hint(column, text, list(cells.texts))) for (column, text), cells in found]


@dataclass
class Repeated:
    """Finds values that are not unique, by 8 bytes for each."""

    hashes: list[npt.NDArray[Any]] = field(default_factory=list)

    def add(self, values: pd.Series) -> None:
        """Add the values of the next part."""
        self.hashes.append(pd.util.hash_pandas_object(values, index=False).to_numpy())

    def suspects(self) -> set[int]:
        """Return the hashes that more than one value has."""
        every = np.sort(np.concatenate([*self.hashes, np.empty(0, np.uint64)]))
        return set(np.unique(every[1:][every[1:] == every[:-1]]).tolist())


def repeated(values: pd.Series, suspects: set[int]) -> pd.Series:
    """Return the values, of those present, whose hashes are among the suspected ones."""
    hashes = pd.util.hash_pandas_object(values, index=False).to_numpy()
    return values[np.isin(hashes, np.array(sorted(suspects), dtype=np.uint64)) & values.notna().to_numpy()]
