"""What is wrong with the data: one report with everything, with row numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from trainer.errors import BadInputError

ROWS_SHOWN = 10
_EXAMPLES_SHOWN = 5
_EXAMPLE_LENGTH = 60


@dataclass(frozen=True)
class Problem:
    """One kind of problem in one column.

    Attributes:
        column: The column, or None for the table as a whole.
        message: What is wrong and what is allowed.
        count: Number of affected rows; 0 if the problem is not about rows.
        rows: The first affected rows, counted from 1 below the header.
        examples: Some of the offending values.
        hint: What would mend it; empty if there is nothing to say.
    """

    column: str | None
    message: str
    count: int = 0
    rows: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        where = f"column {self.column}: " if self.column else ""
        hint = f"; {self.hint}" if self.hint else ""
        if not self.count:
            return f"{where}{self.message}{hint}"
        more = ", ..." if self.count > len(self.rows) else ""
        values = f" (such as {', '.join(self.examples)})" if self.examples else ""
        rows = ", ".join(str(row) for row in self.rows)
        return f"{where}{self.message}{values}: {self.count} rows: {rows}{more}{hint}"


class InvalidDataError(BadInputError):
    """The data does not match the declaration; `problems` lists everything that is wrong.

    `row_count` is None if the rows were not read, because the columns cannot be told. `files` has the files
    of the data, if there are several, each with the number of its first row.
    """

    def __init__(
        self, source: str, row_count: int | None, problems: tuple[Problem, ...], files: Mapping[str, int] | None = None
    ) -> None:
        self.source = source
        self.row_count = row_count
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        rows = "" if row_count is None else f" in {row_count} rows (row 1 is the first below the header)"
        where = "".join(f"\n  row {row} is the first of {name}" for name, row in self._files_at_fault(files or {}))
        super().__init__(f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}{rows}\n{lines}{where}")

    def _files_at_fault(self, files: Mapping[str, int]) -> list[tuple[str, int]]:
        """Return the files in which one of the named rows is, in their order."""
        at_fault = {row for problem in self.problems for row in problem.rows}
        starts = [*files.items(), ("", math.inf)]
        return [
            (name, int(first))
            for (name, first), (_, end) in pairwise(starts)
            if any(first <= row < end for row in at_fault)
        ]

    def to_json(self) -> str:
        """Return the report as JSON, for machines."""
        return json.dumps(
            {
                "source": self.source,
                "rows": self.row_count,
                "problems": [asdict(problem) for problem in self.problems],
            }
        )


def problem_of(
    column: str | None, message: str, count: int, rows: Sequence[int], texts: Sequence[str], *, hint: str = ""
) -> Problem:
    """Describe invalid cells by the first zero-based positions of their rows and their first distinct values."""
    return Problem(
        column,
        message,
        count=count,
        rows=tuple(row + 1 for row in rows[:ROWS_SHOWN]),
        examples=tuple(_short(text) for text in texts[:_EXAMPLES_SHOWN]),
        hint=hint,
    )


def _short(text: str) -> str:
    """Return a cell's text so that it cannot break the report."""
    visible = text if text.isprintable() else repr(text)[1:-1]
    return visible if len(visible) <= _EXAMPLE_LENGTH else f"{visible[: _EXAMPLE_LENGTH - 3]}..."
