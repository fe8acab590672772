"""The interface between endpoints and scoring; endpoints are given these callables, not the classes behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from scorer.answers import Decision, Score
from scorer.applications.tables import Rows
from scorer.model.bundle import Model
from scorer.problems import Problem

Result = TypeVar("Result")
# Scores one application: body, request id, how many reasons at most. Raises Problem.
ScoreOne = Callable[[bytes, str, int], Awaitable[Score]]


@dataclass(frozen=True)
class ScoredRows:
    """A scored batch.

    Attributes:
        model: The model that scored it.
        probabilities: float32 [N]; meaningless for rows with a problem.
        points: int32 [N], likewise.
        declined: bool [N], likewise.
        problems: What is wrong, by row.
    """

    model: Model
    probabilities: npt.NDArray[np.float32]
    points: npt.NDArray[np.int32]
    declined: npt.NDArray[np.bool_]
    problems: Mapping[int, Problem]

    def __len__(self) -> int:
        """Return N."""
        return len(self.probabilities)

    @property
    def decisions(self) -> list[Decision]:
        """The rows' decisions."""
        return ["decline" if declined else "approve" for declined in self.declined.tolist()]


class BatchScoring(Protocol):
    """Scores many applications without holding up single ones."""

    async def score(self, endpoint: str, read: Callable[[Model], Rows]) -> ScoredRows:
        """Score the rows that `read` makes of a request; `endpoint` is its label in metrics and audit log.

        Raises:
            Problem: 503 if there is no model yet, or what `read` raises.
        """
        ...

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do other work on a batch, such as encoding its answer, in the batches' own thread."""
        ...
