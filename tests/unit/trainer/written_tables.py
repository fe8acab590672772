"""Tables that go through a file before they are validated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from trainer.data.declaration import FeatureDeclaration
from trainer.data.problems import InvalidDataError, Problem
from trainer.data.reading import RawTable, read_table
from trainer.data.validation import validate


def written_and_read(
    frame: pd.DataFrame, declaration: FeatureDeclaration, folder: Path, *, form: str = "csv"
) -> RawTable:
    path = folder / f"loans.{form}"
    frame.to_parquet(path) if form == "parquet" else frame.to_csv(path, index=False)
    return read_table(str(path), declaration, scratch=folder, synthetic_rows=0, seed=0)


def problems(
    frame: pd.DataFrame, declaration: FeatureDeclaration, folder: Path, *, form: str = "csv"
) -> tuple[Problem, ...]:
    """Return what is wrong with a table of 100 rows or more."""
    table = written_and_read(frame, declaration, folder, form=form)
    with pytest.raises(InvalidDataError) as caught:
        validate(table, declaration, minimum_rows=100)
    return caught.value.problems
