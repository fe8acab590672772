"""Bulk scoring on Ray Data: a class for `map_batches`."""

from __future__ import annotations

import pyarrow as pa

from creditrisk_scoring.portable import BatchScorer


class TableScorer:
    """Scores tables in an actor of Ray.

    `applications.map_batches(TableScorer, fn_constructor_args=(BatchScorer("model/"),), batch_format="pyarrow",
    concurrency=4)` reads the version where that is called: the workers need neither the folder nor the registry.
    """

    def __init__(self, scorer: BatchScorer) -> None:
        """Take what scores."""
        self._scorer = scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the results of applications, in their order, as `scoring.score` has them.

        Raises:
            UsageError: A column is missing, appears twice, or has a type that cannot be read.
        """
        return pa.Table.from_batches(map(self._scorer, table.to_batches()), self._scorer.schema(table.schema))
