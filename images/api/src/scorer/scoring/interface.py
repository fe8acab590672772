"""The interface between endpoints and scoring; endpoints are given these callables, not the classes behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from scorer.answers import Decision, Score
from scorer.applications.tables import Rows
from scorer.applications.unusual import UnusualRows
from scorer.decision_log.origin import Origin
from scorer.model.bundle import Model
from scorer.problems import Problem

Result = TypeVar("Result")


class ScoreOne(Protocol):
    """Scores one application."""

    async def __call__(self, body: bytes, origin: Origin, reasons: int = 0, *, warnings: bool = True) -> Score:
        """Score a body's application, with at most so many reasons, and with or without warnings.

        Raises:
            Problem: 503 if there is no model yet, or if the decision must be logged and cannot be; 400 or 422 if the
                application is invalid.
        """
        ...


@dataclass(frozen=True)
class ScoredRows:
    """A scored batch.

    Attributes:
        model: The model that scored it.
        probabilities: float32 [N]; meaningless for rows with a problem.
        points: int32 [N], likewise.
        declined: bool [N], likewise.
        grades: The rows' grades, likewise; None if the model has none.
        problems: What is wrong, by row.
        unusual: Values unlike those of training.
    """

    model: Model
    probabilities: npt.NDArray[np.float32]
    points: npt.NDArray[np.int32]
    declined: npt.NDArray[np.bool_]
    grades: list[str] | None
    problems: Mapping[int, Problem]
    unusual: UnusualRows

    def __len__(self) -> int:
        """Return N."""
        return len(self.probabilities)

    @property
    def decisions(self) -> list[Decision]:
        """The rows' decisions."""
        return ["decline" if declined else "approve" for declined in self.declined.tolist()]


class BatchScoring(Protocol):
    """Scores many applications without holding up single ones."""

    async def score(
        self, origin: Origin, read: Callable[[Model], Rows], first_row: int = 0, *, all_or_none: bool = False
    ) -> ScoredRows:
        """Score the rows that `read` makes of a request, or of a part of it that begins with `first_row`.

        Raises:
            Problem: 503 if there is no model yet, or if the decisions must be logged and cannot be; what `read`
                raises; and, for `all_or_none`, 422 if any row is invalid.
        """
        ...

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do other work on a batch, such as encoding its answer, in the batches' own thread."""
        ...
