"""The interface between endpoints and scoring; endpoints are given these callables, not the classes behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from scorer.answers import Score
from scorer.applications.tables import Rows
from scorer.decision_log.origin import Origin
from scorer.model.bundle import Model, ScoredRows

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
