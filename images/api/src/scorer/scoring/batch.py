"""Scores many applications: in a thread of their own, so that single ones need not wait for a whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from scorer.applications.tables import Rows
from scorer.model.bundle import Model
from scorer.problems import Problem
from scorer.scoring.single import ModelReference, Scorer, model_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch:
    """Scored rows.

    Attributes:
        model: What scored them.
        probabilities: float32 [N]; without meaning where there is a problem.
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
    def decisions(self) -> list[str]:
        """The rows' decisions."""
        return ["decline" if declined else "approve" for declined in self.declined.tolist()]


class BatchScorer:
    """Scores batches one after the other."""

    def __init__(self, scorer: Scorer) -> None:
        """Take what scores single applications: model, scorecard and metrics are the same."""
        self.scorer = scorer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")

    async def score(self, endpoint: str, read: Callable[[Model], Rows]) -> Batch:
        """Score the rows that `read` makes of a request.

        Raises:
            Problem: when there is no model yet, or what `read` raises.
        """
        model = model_of(self.scorer.slot)
        batch = await self.run(lambda: self._scored(model, read(model)))
        fine = np.ones(len(batch), dtype=bool)
        fine[list(batch.problems)] = False
        declined = int(batch.declined[fine].sum())
        self.scorer.metrics.scored_many(endpoint, batch.probabilities[fine], declined, len(batch.problems))
        if self.scorer.audit:
            identity, counts = model.identity, {"declined": declined, "refused": len(batch.problems)}
            self.scorer.audit.write(
                endpoint, model=ModelReference(identity.name, identity.version), served_by=self.scorer.served_by,
                rows=len(batch), **counts,
            )  # fmt: skip
        return batch

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work in the batches' thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _scored(self, model: Model, rows: Rows) -> Batch:
        probabilities = model.network.score_many(rows.numeric, rows.codes)
        declined = probabilities.astype(np.float64) >= model.contract.decision_threshold
        points = self.scorer.scorecard.points_of(probabilities)
        return Batch(model, probabilities, points, declined, rows.problems)
