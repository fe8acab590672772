"""Bulk scoring through `mlflow.pyfunc`: what a registered version loads if it is asked for whole results."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import pandas as pd
import pyarrow as pa

from creditrisk_scoring.portable import BatchScorer


class ResultsModel:
    """A model whose predictions are the results of bulk scoring."""

    def __init__(
        self, folder: str | PathLike[str], *, reasons: int = 0, scorecard: Sequence[float] = (600, 50, 20)
    ) -> None:
        """Take what `BatchScorer` takes."""
        self._scorer = BatchScorer(folder, reasons=reasons, scorecard=scorecard)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return the results of applications, in their order, as `scoring.score` has them.

        Args:
            model_input: A column for each feature, by its name; others are ignored. NaN and None mean missing.
            params: Unused; part of MLflow's interface.

        Raises:
            UsageError: A column is missing, appears twice, or has a type that cannot be read.
        """
        names = list(model_input.columns)
        needed = set(self._scorer.needed(names))
        places = [place for place, name in enumerate(names) if name in needed]
        columns = [_arrow(model_input.iloc[:, place]) for place in places]
        results = self._scorer(pa.RecordBatch.from_arrays(columns, [names[place] for place in places]))
        # Whole numbers stay whole beside rows that have none.
        frame: pd.DataFrame = results.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
        return frame


def _arrow(values: pd.Series[Any]) -> pa.Array:
    """Return a column; one of several types becomes texts, which are read by row."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)])
