"""Scores batches in a thread of their own, so that single applications need not wait for a whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from scorer.applications.tables import Rows, refuse_invalid_rows
from scorer.decision_log.events import DecidedRows
from scorer.decision_log.origin import Origin
from scorer.model.bundle import Model, ScoredRows
from scorer.scoring.context import ScoringContext

Result = TypeVar("Result")


class BatchScorer:
    """Scores batches one at a time."""

    def __init__(self, context: ScoringContext) -> None:
        """Start no thread yet: the first batch does."""
        self._context = context
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")

    async def score(
        self, origin: Origin, read: Callable[[Model], Rows], first_row: int = 0, *, all_or_none: bool = False
    ) -> ScoredRows:
        """Score the rows that `read` makes of a request, or of a part of it that begins with `first_row`.

        Raises:
            Problem: 503 if there is no model yet, or if the decisions must be logged and cannot be; what `read`
                raises; and, for `all_or_none`, 422 if any row is invalid.
        """
        model = self._context.slot.require()
        rows, decided = await self.run(lambda: self._score(model, read(model), origin, first_row))
        log = self._context.decisions
        # A request that is refused as a whole has no decision.
        if log and decided and decided.count and not (all_or_none and rows.problems):
            log.add_rows(model.identity, model.document, origin, decided)
            if log.waits:
                await log.durable()
        self._record(origin, rows)
        if all_or_none:
            refuse_invalid_rows(rows.problems, len(rows))
        return rows

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work in the batches' thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _score(self, model: Model, rows: Rows, origin: Origin, first_row: int) -> tuple[ScoredRows, DecidedRows | None]:
        scored, decided = model.score_rows(rows, self._context.scorecard), None
        if self._context.decisions:
            columns = (rows.numeric, rows.codes, scored.probabilities, scored.points, scored.declined)
            decided = DecidedRows.of(origin, rows.applicant_ids, columns, list(rows.problems), first_row)
        return scored, decided

    def _record(self, origin: Origin, rows: ScoredRows) -> None:
        """Count the rows and log the batch."""
        context = self._context
        valid = np.ones(len(rows), dtype=bool)
        valid[list(rows.problems)] = False
        declined, refused = int(rows.declined[valid].sum()), len(rows.problems)
        context.metrics.scored_many(origin.endpoint, rows.probabilities[valid], declined, refused)
        context.metrics.warned(rows.unusual.counts)
        if context.audit:
            context.audit.write(
                origin.endpoint, request_id=origin.request_id, model=rows.model.reference, served_by=context.served_by,
                rows=len(rows), declined=declined, refused=refused,
            )  # fmt: skip
