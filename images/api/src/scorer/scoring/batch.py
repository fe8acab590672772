"""Scores batches in a thread of their own, so that single applications need not wait for a whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from scorer.applications.tables import Rows
from scorer.model.bundle import Model
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import ScoredRows

Result = TypeVar("Result")


class BatchScorer:
    """Scores batches one at a time."""

    def __init__(self, context: ScoringContext) -> None:
        """Start no thread yet: the first batch does."""
        self._context = context
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")

    async def score(self, endpoint: str, read: Callable[[Model], Rows]) -> ScoredRows:
        """Score the rows that `read` makes of a request.

        Raises:
            Problem: 503 if there is no model yet, or what `read` raises.
        """
        model = self._context.slot.require()
        rows = await self.run(lambda: self._score(model, read(model)))
        self._record(endpoint, rows)
        return rows

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work in the batches' thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _score(self, model: Model, rows: Rows) -> ScoredRows:
        probabilities = model.network.score_many(rows.numeric, rows.codes)
        declined = probabilities.astype(np.float64) >= model.contract.decision_threshold
        points = self._context.scorecard.points_of(probabilities)
        unusual = model.unusual.find(rows.numeric, rows.codes, rows.problems)
        grades = model.scale.grades_of(probabilities) if model.scale else None
        return ScoredRows(model, probabilities, points, declined, grades, rows.problems, unusual)

    def _record(self, endpoint: str, rows: ScoredRows) -> None:
        """Count the rows and log the batch."""
        context = self._context
        valid = np.ones(len(rows), dtype=bool)
        valid[list(rows.problems)] = False
        declined, refused = int(rows.declined[valid].sum()), len(rows.problems)
        context.metrics.scored_many(endpoint, rows.probabilities[valid], declined, refused)
        context.metrics.warned(rows.unusual.counts)
        if context.audit:
            context.audit.write(
                endpoint, model=rows.model.reference, served_by=context.served_by, rows=len(rows), declined=declined,
                refused=refused,
            )  # fmt: skip
