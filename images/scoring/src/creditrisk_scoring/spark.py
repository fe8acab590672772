"""Bulk scoring on Spark: a DataFrame of applications to a DataFrame of their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import pyarrow as pa

from creditrisk_scoring.portable import BatchScorer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def score_frame(
    applications: DataFrame,
    model: str | PathLike[str],
    *,
    reasons: int = 0,
    keep: Sequence[str] = (),
    scorecard: Sequence[float] = (600, 50, 20),
) -> DataFrame:
    """Return the results of applications, as `scoring.score` has them.

    Args:
        applications: A column for each feature, by its name; others are not sent to the workers.
        model: What `BatchScorer` takes; read here, so that the workers need neither the folder nor the registry.
        reasons: How many reason codes to find, at most.
        keep: Columns that the results get, first, such as those that say whose application it is.
        scorecard: Base points, base odds, and points to double the odds.

    Raises:
        BulkError: What `BatchScorer` raises. Workers fail with it for columns that cannot be read.
    """
    from pyspark.sql.pandas.types import from_arrow_schema  # noqa: PLC0415 - an optional extra
    from pyspark.sql.types import StructType  # noqa: PLC0415

    scorer = BatchScorer(model, reasons=reasons, keep=keep, scorecard=scorecard)
    given = applications.select(*map(_quoted, scorer.needed(applications.columns)))
    results = StructType([*(given.schema[name] for name in scorer.keep), *from_arrow_schema(scorer.results)])

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return map(scorer, batches)

    return given.mapInArrow(scored, results)


def _quoted(name: str) -> str:
    """Return a column's name as Spark reads it: a dot in it is no field of a struct."""
    return "`" + name.replace("`", "``") + "`"
